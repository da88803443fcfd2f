"""The benchmark `restart`: how soon a stopped instance serves again, and what it asks for until then.

With users who are served already, an instance beside each node, and a new user who signs up as the processes start:

- with their checkpoints: when all are ready, when the new user is served, what was asked of other users' databases;
- with the state directory lost: the same, which takes a scan. Its rate is that of all users over the time from the
  start of the processes until all are ready, because that is what an operator waits for. Beside it, in turns, stands a
  plain loop that reads every user's security object, at several numbers in flight: the least that a scan takes.

On a simulated cluster the users are there at once; on a real one each has to be made. A simulated cluster answers
faster than one process of Python can ask, so the plain loop is no ceiling there: the ratio is to be had of a real one.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.restart.runs import KEPT, LOST, Run
from bench.restart.stage import Stage
from bench.restart.summing import result
from bench.results import Options, Result
from bench.rig.cluster import Cluster, open_cluster
from bench.rig.contenders import rotated
from bench.rig.daemons import QUICK_CLUSTER
from bench.rig.progress import Steps, steps
from peruserd.core.configuration.config import ClusterConfig

SIZES: Final = (10_000, 50_000)
SIZES_TO_MAKE: Final = (10_000,)
QUICK_SIZES: Final = (500,)
ROUNDS: Final = 2
IN_FLIGHT: Final = (8, 16, 32)

# The quiet period must be longer than a start takes, or instances that start together scan what others still own. No
# instance is lost here, so a long one costs no time.
QUICK: Final = msgspec.structs.replace(QUICK_CLUSTER, quiet_period=ClusterConfig().quiet_period)


def run(options: Options) -> Result:
    """Measure; a real cluster is given its users first, which takes about as long as the benchmark `provision`."""
    sizes = QUICK_SIZES if options.quick else SIZES_TO_MAKE if options.cluster else SIZES
    in_flight = IN_FLIGHT[1:2] if options.quick else IN_FLIGHT
    rounds = 1 if options.quick else ROUNDS
    runs: list[Run] = []
    with steps("restart", len(sizes) * (1 + rounds * (2 + len(in_flight)))) as progress:
        for users in sizes:
            with open_cluster(options.cluster) as cluster:
                version = cluster.version()
                runs += measure(cluster, users, rounds, in_flight, progress, QUICK if options.quick else None)
    return result(options, version, runs)


def measure(
    cluster: Cluster,
    users: int,
    rounds: int,
    in_flight: Sequence[int],
    progress: Steps,
    config: ClusterConfig | None = None,
) -> Iterator[Run]:
    """Give the cluster its users, let instances settle once, and then stop and start them, and read, in turns."""
    with tempfile.TemporaryDirectory(prefix="peruserd-bench-") as directory:
        stage = Stage(cluster, Path(directory), users, config)
        progress.step(f"{users:,} users: made, and served by instances that are new")
        stage.prepare()
        contenders: list[str | int] = [KEPT, LOST, *in_flight]
        for number in range(rounds):
            for each in rotated(contenders, number):
                if isinstance(each, str):
                    progress.step(f"{users:,} users, round {number + 1}: {each}")
                    yield stage.restart(each, number)
                else:
                    progress.step(f"{users:,} users, round {number + 1}: bare reads, {each} in flight")
                    yield stage.read(each, number)
