"""The benchmark `filling`: how long a user waits for a database while the cluster gets more and more of them.

The cluster is filled with users' databases in steps. At each step users sign up slowly, and are served by peruserd and
by the two bare requests, in turns. If both get slower, the cluster is the reason. CouchDB 3.5 reads through the list of
all databases on each node whenever a database is made (its `custodian`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.arrivals import arrive
from bench.harness.bare import Bare
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.contenders import BARE, PERUSERD, rotated, serving
from bench.harness.daemons import QUICK_CLUSTER
from bench.harness.open_loop import LEAD_SECONDS
from bench.harness.progress import Steps
from bench.results import Chart, Figure, Report, Table, percentile

# The first few users are not counted: they open the connections and fill the caches.
_WARM_UP: Final = 4
_IN_FLIGHT: Final = 16


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The databases of each step, and the users at each. Sign-ups are slow, so that a full cluster is not busy.

    `lead_seconds` are those before the first sign-up.
    """

    sizes: tuple[int, ...] = (0, 500, 1_000, 2_000)
    users: int = 40
    rate: float = 2.0
    lead_seconds: float = LEAD_SECONDS


QUICK: Final = Course(sizes=(0, 50), users=6, rate=50.0, lead_seconds=0.02, settings=QUICK_CLUSTER)


class Sample(msgspec.Struct, frozen=True):
    """The latencies of one contender's users, in milliseconds, on a cluster that had so many databases before."""

    contender: str
    databases: int
    latencies_ms: list[float]


def course(options: Options) -> Course:
    """Return the size of the run; on a real cluster it takes about six minutes."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Fill the cluster up, step by step; at each, let both contenders serve some users."""
    cluster, made = setting.cluster, 0
    steps.expect(3 * len(course.sizes))
    for number, size in enumerate(course.sizes):
        steps.step(f"filling up to {size:,} databases")
        _fill(cluster, size - made)
        made = max(made, size)
        for contender in rotated((BARE, PERUSERD), number):
            steps.step(f"{size:,} databases: {contender}")
            with serving(cluster, setting.instances, contender):
                _latencies(cluster, contender, course, _WARM_UP)
                yield Sample(contender, made, _latencies(cluster, contender, course, course.users))
            made += _WARM_UP + course.users


def _fill(cluster: Cluster, count: int) -> None:
    names = cluster.new_names(max(0, count))
    cluster.sign_up(names)
    Bare(cluster).serve_all([names], _IN_FLIGHT)


def _latencies(cluster: Cluster, contender: str, course: Course, users: int) -> list[float]:
    """Sign users up and return how long each waited; raises ClusterError where a user was not served."""
    bare = Bare(cluster)
    arrivals = arrive(
        cluster,
        users,
        course.rate,
        then=(lambda each: bare.serve(each.name, each.number)) if contender == BARE else None,
        lead_seconds=course.lead_seconds,
    )
    if arrivals.refused or arrivals.unserved:
        raise ClusterError(f"{arrivals.refused} users could not sign up, {arrivals.unserved} were not served")
    return arrivals.latencies_ms


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return for each contender how much slower the fullest cluster is than the emptiest one."""
    return {
        f"p50 on the fullest cluster / on the emptiest, {contender}": Figure(
            (percentile(own[-1].latencies_ms, 50) / percentile(own[0].latencies_ms, 50),), "", "lower"
        )
        for contender, own in _by_contender(samples).items()
    }


def report(course: Course, samples: Sequence[Sample]) -> Report:
    """Return the latencies at each step as a table, and their medians as a chart."""
    table = Table(
        f"{course.rate:g} sign-ups a second on a cluster that fills up: latency in ms",
        ("databases", "served by", "users", "p50", "p90", "max"),
        tuple(_row(each) for each in samples),
    )
    medians = {
        contender: [(float(each.databases), percentile(each.latencies_ms, 50)) for each in own]
        for contender, own in _by_contender(samples).items()
    }
    title = f"latency at {course.rate:g} sign-ups a second"
    return Report((table,), (Chart(title, "users' databases on the cluster", "p50 in ms", medians),))


def _by_contender(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    contenders = dict.fromkeys(each.contender for each in samples)
    return {contender: [each for each in samples if each.contender == contender] for contender in contenders}


def _row(sample: Sample) -> tuple[str, ...]:
    return (
        f"{sample.databases:,}",
        sample.contender,
        str(len(sample.latencies_ms)),
        *(f"{percentile(sample.latencies_ms, percent):.0f}" for percent in (50, 90, 100)),
    )
