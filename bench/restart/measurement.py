"""Measuring how soon stopped instances serve again, and what they ask for until then.

All users are served already, an instance runs beside each node, and a new user signs up as the processes start. There
are two kinds of starts:

- With the checkpoints of the stop. Measured are the time until all instances are ready, the time until the new user is
  served, and the requests about other users' databases.
- With the state lost. The same is measured, and a scan is needed. Its rate is all users over the time from the start of
  the processes until all are ready, because an operator waits so long.

In turns with them, a plain loop reads every user's security object, with several numbers of reads in flight. No scan
can do with less. A simulated cluster answers faster than one process of Python can ask, so the plain loop is no ceiling
there. Only a real cluster gives a ratio.

A simulated cluster is made with its users. On a real one each user has to be made.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.contenders import rotated
from bench.harness.daemons import QUICK_CLUSTER
from bench.harness.progress import Steps
from bench.restart.samples import KEPT, LOST, Sample
from bench.restart.served_cluster import ServedCluster
from peruserd.core.configuration.config import ClusterConfig
from peruserd.simcluster import ClusterOptions

# The quiet period must be longer than a start takes, or else instances that start together scan each other's documents.
# A long one costs no time here, because no instance is lost.
_QUICK_CLUSTER: Final = msgspec.structs.replace(QUICK_CLUSTER, quiet_period=ClusterConfig().quiet_period)


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The numbers of users, each on a cluster of its own, and for each of them the rounds and the reads in flight."""

    simulated: tuple[ClusterOptions, ...] = (ClusterOptions(), ClusterOptions())
    users: tuple[int, ...] = (10_000, 50_000)
    rounds: int = 2
    in_flight: tuple[int, ...] = (8, 16, 32)


REAL: Final = Course(users=(10_000,))
QUICK: Final = Course(simulated=(ClusterOptions(),), users=(500,), rounds=1, in_flight=(16,), settings=_QUICK_CLUSTER)


def course(options: Options) -> Course:
    """Return the size of the run.

    A real cluster is given its users first, which takes about as long as the benchmark `provision`.
    """
    return QUICK if options.quick else REAL if options.cluster else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Let instances serve all users once, and then stop and start them, and read, in turns."""
    users = course.users[setting.number]
    served = ServedCluster(setting.cluster, setting.instances, users)
    contenders: list[str | int] = [KEPT, LOST, *course.in_flight]
    steps.expect(1 + course.rounds * len(contenders))
    steps.step(f"{users:,} users: made, and served by instances that are new")
    served.prepare()
    for number in range(course.rounds):
        for each in rotated(contenders, number):
            if isinstance(each, str):
                steps.step(f"{users:,} users, round {number + 1}: {each}")
                yield served.restart(each, number)
            else:
                steps.step(f"{users:,} users, round {number + 1}: bare reads, {each} in flight")
                yield served.read(each, number)
