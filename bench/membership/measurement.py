"""Measuring users while an instance is lost, and while it comes back.

Users whose document another instance owns should not notice. The others wait for two things:

- The loss has to be believed, which takes `lease_ttl`, `quiet_period` and two readings of the cluster.
- The new owner has to scan for them.

A latency is from the answer to the user document until the database is secured.

Users also leave, as many as sign up. CouchDB reads through the list of all databases whenever a database is made, so a
cluster that only fills up gets slower by itself. In the time of a round that would be half as slow again, and "before"
could not be compared with "after".
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.daemons import QUICK_CLUSTER, Daemons
from bench.harness.departures import Departures
from bench.harness.open_loop import OpenLoop, SignUp
from bench.harness.progress import Steps
from bench.harness.watch import Watch
from bench.membership.samples import AFTER, BEFORE, DURING, Run, User
from peruserd.core.configuration.config import ClusterConfig

# After the last sign-up, on top of the time until a loss is believed: for the scan, on a cluster that is busy.
_PATIENCE_SECONDS: Final = 60.0


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The course of a round: sign-ups a second, seconds of its phases, the cluster settings of the instances.

    Users stay for `stay` seconds. The users of the warm-up count nowhere, because first requests open connections, and
    because the cluster fills up until the first users have left.
    """

    rate: float = 3.0
    rounds: int = 3
    stay: float = 15.0
    warm_up: float = 20.0
    before: float = 60.0
    during: float = 45.0
    after: float = 30.0
    settings: ClusterConfig = ClusterConfig()

    @property
    def users(self) -> int:
        """Return how many users sign up in a round."""
        return round(self.rate * (self.warm_up + self.before + self.during + self.after))

    @property
    def promised(self) -> float:
        """Return the seconds until a loss is believed everywhere, at most. The time of a scan is not in it."""
        return self.settings.lease_ttl + self.settings.quiet_period + 2 * self.settings.poll_interval


QUICK: Final = Course(
    rate=10.0,
    rounds=1,
    stay=0.3,
    warm_up=0.3,
    before=1.0,
    during=3.2,
    after=1.0,
    settings=msgspec.structs.replace(QUICK_CLUSTER, lease_ttl=2.0),
)


def course(options: Options) -> Course:
    """Return the course of the rounds; all of them take eight minutes."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Run]:
    """Kill an instance and start it again, in each round."""
    if len(setting.cluster.nodes) < 2:
        raise ClusterError("membership needs a cluster of two nodes or more")
    steps.expect(4 * course.rounds)
    with setting.instances.running():
        for _ in range(course.rounds):
            yield _round(setting.cluster, setting.instances, course, steps)


def _round(cluster: Cluster, instances: Daemons, course: Course, steps: Steps) -> Run:
    *others, victim = range(len(cluster.nodes))
    names = cluster.new_names(course.users)
    owners = cluster.owners(names)
    lost = {name for name in names if owners[name] == cluster.nodes[victim]}
    instances.wait_until_settled()
    with (
        Watch(cluster) as watch,
        Departures(cluster, watch, course.stay, course.rate),
        OpenLoop(cluster, names, course.rate, others) as loop,
    ):
        steps.step("warming up")
        begun = loop.start + course.warm_up
        _sleep_until(begun)
        steps.step(BEFORE)
        _sleep_until(begun + course.before)
        steps.step(f"{DURING}: the instance of {cluster.nodes[victim]} is killed")
        killed = time.monotonic()
        instances.kill(victim)
        _sleep_until(killed + course.during)
        steps.step(f"{AFTER}: it is started again")
        restarted = time.monotonic()
        instances.start([victim])
        signed_up = loop.finish()
        _check(signed_up)
        left = watch.wait_for(set(names), course.promised + _PATIENCE_SECONDS)
        if left:
            raise ClusterError(f"{len(left)} users were not served, such as {min(left)}")
    return Run(
        users=[_user(each, watch.served[each.name], killed, lost=each.name in lost) for each in signed_up],
        begun=begun - killed,
        restarted=restarted - killed,
    )


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _check(signed_up: Sequence[SignUp]) -> None:
    """Raise ClusterError where a sign-up failed: the nodes that are asked are there all the time."""
    failed = [each for each in signed_up if each.failure is not None]
    if failed:
        raise ClusterError(f"{len(failed)} users could not sign up: {failed[0].name}: {failed[0].failure}")


def _user(each: SignUp, served: float, killed: float, *, lost: bool) -> User:
    assert each.answered is not None  # noqa: S101 - a sign-up without an answer was raised as an error
    return User(each.name, lost, each.due - killed, each.begun - killed, each.answered - killed, served - killed)
