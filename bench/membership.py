"""The benchmark `membership`: an instance is killed, and started again later, while people sign up at a steady rate.

Users whose document another instance owns should not notice. The others wait until the loss is believed
(`lease_ttl`, `quiet_period`, two looks at the cluster) and their new owner has scanned for them.
A latency is from the answer to the user document until the database is secured.

People also leave, as many as sign up: CouchDB reads through the list of all databases whenever one is made, so a
cluster that only fills up gets slower by itself (half as slow again in this time, with no instance killed), and before
and after could not be compared.
"""

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

from bench.results import Chart, Figure, Options, Result, Table, percentile
from bench.rig.cluster import Cluster, ClusterError, open_cluster
from bench.rig.daemons import QUICK_CLUSTER, Daemons, daemons
from bench.rig.leaving import Leaving
from bench.rig.openloop import OpenLoop, SignUp
from bench.rig.progress import Steps, steps
from bench.rig.watching import Watch
from peruserd.core.configuration.config import ClusterConfig

RATE: Final = 3.0
ROUNDS: Final = 3

MAX_OF_BEFORE: Final = 1.5

BEFORE: Final = "before"
DURING: Final = "during"
AFTER: Final = "after"

KEPT: Final = "keep their owner"
LOST: Final = "lose their owner"

# After the last sign-up, beside the time until a loss is believed: for the scan, on a cluster that is busy.
_PATIENCE_SECONDS: Final = 60.0

# Latencies can be below zero: the daemon may be done before the answer has come back to who signed up.
_MIN_CHARTED_MS: Final = 0.1


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The course of a round: sign-ups a second, seconds of its phases, the cluster settings of the instances.

    Users stay for `stay` seconds. Users of the warm-up count nowhere: first requests open connections, and the cluster
    fills up until the first users have left.
    """

    rate: float = RATE
    rounds: int = ROUNDS
    stay: float = 15.0
    warm_up: float = 20.0
    before: float = 60.0
    during: float = 45.0
    after: float = 30.0
    settings: ClusterConfig = ClusterConfig()

    @property
    def users(self) -> int:
        """Return how many sign up in a round."""
        return round(self.rate * (self.warm_up + self.before + self.during + self.after))

    @property
    def promised(self) -> float:
        """Return the seconds until a loss is believed everywhere, at most; a scan comes on top."""
        return self.settings.lease_ttl + self.settings.quiet_period + 2 * self.settings.poll_interval


QUICK: Final = Course(
    rate=6.0,
    rounds=1,
    stay=1.0,
    warm_up=1.0,
    before=2.0,
    during=4.5,
    after=2.0,
    settings=QUICK_CLUSTER,
)


class User(msgspec.Struct, frozen=True):
    """One user, in seconds since the instance was killed. `lost` says that this instance owned the user's document."""

    name: str
    lost: bool
    due: float
    begun: float
    answered: float
    served: float

    @property
    def milliseconds(self) -> float:
        """Return the latency."""
        return (self.served - self.answered) * 1e3


class Run(msgspec.Struct, frozen=True):
    """The events of a round; times are seconds since the instance was killed.

    It was started again at `restarted`.
    """

    users: list[User]
    begun: float
    restarted: float

    def latencies(self, phases: Sequence[str], group: str) -> list[float]:
        """Return the latencies of a group in these phases, in milliseconds, in the order of the sign-ups."""
        return [
            user.milliseconds
            for user in self.users
            if self.phase(user) in phases and group == (LOST if user.lost else KEPT)
        ]

    def phase(self, user: User) -> str | None:
        """Return the phase a user counts in, None while it warmed up; who waits at the kill counts as during."""
        if user.due < self.begun:
            return None
        if user.due >= self.restarted:
            return AFTER
        return BEFORE if user.served < 0 else DURING


def run(options: Options) -> Result:
    """Measure; this takes eight minutes."""
    course = QUICK if options.quick else Course()
    with open_cluster(options.cluster) as cluster, daemons(cluster, course.settings) as instances:
        if len(cluster.nodes) < 2:
            raise ClusterError("membership needs a cluster of two nodes or more")
        with steps("membership", 4 * course.rounds) as progress, instances.running():
            found = [_measure(cluster, instances, course, progress) for _ in range(course.rounds)]
        return _result(options, cluster, course, found)


def _measure(cluster: Cluster, instances: Daemons, course: Course, progress: Steps) -> Run:
    *others, victim = range(len(cluster.nodes))
    names = cluster.new_names(course.users)
    owners = cluster.owners(names)
    lost = {name for name in names if owners[name] == cluster.nodes[victim]}
    instances.wait_until_settled()
    with (
        Watch(cluster) as watch,
        Leaving(cluster, watch, course.stay, course.rate),
        OpenLoop(cluster, names, course.rate, others) as loop,
    ):
        progress.step("warming up")
        begun = loop.start + course.warm_up
        _sleep_until(begun)
        progress.step(BEFORE)
        _sleep_until(begun + course.before)
        progress.step(f"{DURING}: {cluster.nodes[victim]}'s instance is killed")
        killed = time.monotonic()
        instances.kill(victim)
        _sleep_until(killed + course.during)
        progress.step(f"{AFTER}: it is started again")
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
    assert each.answered is not None  # noqa: S101 - those that failed have been raised
    return User(each.name, lost, each.due - killed, each.begun - killed, each.answered - killed, served - killed)


class Summary(msgspec.Struct, frozen=True):
    """The p99 of those who keep their owner, in milliseconds, and the longest wait of the others.

    An instance is lost from the kill to the new start, and comes back from then on.
    """

    p99_before: float
    p99_lost: float
    p99_back: float
    longest_lost: float
    latest_start: float


def latencies(rounds: Sequence[Run], phases: Sequence[str], group: str) -> list[float]:
    """Return the latencies of a group in these phases of all rounds, in milliseconds."""
    return [milliseconds for each in rounds for milliseconds in each.latencies(phases, group)]


def summary(rounds: Sequence[Run]) -> Summary:
    """Sum the rounds up; raises ClusterError where a group is empty, which only a run that is too short has."""
    before, during, after = (latencies(rounds, [phase], KEPT) for phase in (BEFORE, DURING, AFTER))
    lost = latencies(rounds, [DURING], LOST)
    if not (before and during and after and lost):
        raise ClusterError("too few users signed up to compare before and after")
    return Summary(
        p99_before=percentile(before, 99),
        p99_lost=percentile(during, 99),
        p99_back=percentile(after, 99),
        longest_lost=max(lost),
        latest_start=max(user.begun - user.due for each in rounds for user in each.users) * 1e3,
    )


def table(rounds: Sequence[Run]) -> tuple[tuple[str, ...], ...]:
    """Return the rows by phase and group, milliseconds."""
    rows = []
    for group in (KEPT, LOST):
        for phase in (BEFORE, DURING, AFTER):
            values = latencies(rounds, [phase], group)
            points = [f"{percentile(values, percent):,.1f}" for percent in (50, 90, 99, 100)] if values else ["–"] * 4  # noqa: RUF001
            rows.append((phase, group, str(len(values)), *points))
    return tuple(rows)


def figures(summed: Summary) -> dict[str, Figure]:
    """Return what runs are compared by."""
    return {
        "p99 before": Figure((summed.p99_before,), "ms", "lower"),
        "p99 while an instance is lost / before": Figure(
            (summed.p99_lost / summed.p99_before,), "", "lower", MAX_OF_BEFORE
        ),
        "p99 as it comes back / before": Figure((summed.p99_back / summed.p99_before,), "", "lower"),
        "longest wait for a new owner": Figure((summed.longest_lost / 1e3,), "s", "lower"),
    }


def _result(options: Options, cluster: Cluster, course: Course, rounds: Sequence[Run]) -> Result:
    version, summed = cluster.version(), summary(rounds)
    interval = 1e3 / course.rate
    return Result(
        name="membership",
        parameters={
            "cluster": version,
            "nodes": len(cluster.nodes),
            "quick": options.quick,
            **msgspec.structs.asdict(course),
        },
        samples={"rounds": rounds},
        figures=figures(summed),
        tables=(
            Table(
                f"An instance of {len(cluster.nodes)} killed and started again, {course.rate:g} sign-ups a second, "
                f"{version}: latency in ms",
                ("phase", "users who", "users", "p50", "p90", "p99", "max"),
                table(rounds),
            ),
            Table(
                "Beside the goal",
                ("what", "measured", "should be"),
                (
                    (
                        "longest wait for a new owner",
                        f"{summed.longest_lost / 1e3:.1f} s",
                        f"{course.promised:g} s and the time of a scan",
                    ),
                    (
                        "a sign-up begins late by",
                        f"{summed.latest_start:.1f} ms",
                        f"at most {interval:g} ms, or it is no open loop",
                    ),
                ),
            ),
        ),
        charts=(
            Chart(
                f"an instance is lost, {course.rate:g} sign-ups a second",
                "seconds since it was killed",
                "latency in ms",
                {
                    group: [
                        (user.due, max(_MIN_CHARTED_MS, user.milliseconds))
                        for each in rounds
                        for user in each.users
                        if user.lost == (group == LOST)
                    ]
                    for group in (KEPT, LOST)
                },
                limit=MAX_OF_BEFORE * summed.p99_before,
                limit_label=f"{MAX_OF_BEFORE} x p99 before, of those who {KEPT}",
                logarithmic_y=True,
                points=True,
                marks={"killed": 0.0, "started again": median(each.restarted for each in rounds)},
            ),
        ),
    )
