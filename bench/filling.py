"""The benchmark `filling`: how long a user waits for a database as the cluster gets fuller of them.

The cluster is filled with users' databases in steps; at each, users sign up slowly, served in turns by peruserd and by
the two bare requests. A growth that both share is the cluster's: CouchDB 3.5 reads through the list of all databases,
on each node, whenever one is made (its `custodian`).
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench.results import Chart, Figure, Options, Result, Table, percentile
from bench.rig.arriving import arrive
from bench.rig.bare import Bare
from bench.rig.cluster import Cluster, ClusterError, open_cluster
from bench.rig.contenders import BARE, PERUSERD, rotated, serving
from bench.rig.daemons import QUICK_CLUSTER, Daemons, daemons
from bench.rig.progress import Steps, steps

SIZES: Final = (0, 500, 1_000, 2_000)
QUICK_SIZES: Final = (0, 50)

# Slow, so that a full cluster is still below saturation.
RATE: Final = 2.0
QUICK_RATE: Final = 50.0
USERS: Final = 40
QUICK_USERS: Final = 6

# Connections are made and caches filled by the first few, which are not counted.
_WARM_UP: Final = 4
_IN_FLIGHT: Final = 16


class Sample(msgspec.Struct, frozen=True):
    """The latencies of one contender's users, in milliseconds, on a cluster that held so many databases before."""

    contender: str
    databases: int
    latencies_ms: list[float]


def run(options: Options) -> Result:
    """Measure; this takes about six minutes on a real cluster."""
    sizes, users, rate = (QUICK_SIZES, QUICK_USERS, QUICK_RATE) if options.quick else (SIZES, USERS, RATE)
    config = QUICK_CLUSTER if options.quick else None
    with open_cluster(options.cluster) as cluster, daemons(cluster, config) as instances:
        with steps("filling", 3 * len(sizes)) as progress:
            samples = list(_measure(cluster, instances, sizes, users, rate, progress))
        return _result(options, cluster.version(), samples, rate)


def _measure(
    cluster: Cluster, instances: Daemons, sizes: Sequence[int], users: int, rate: float, progress: Steps
) -> Iterator[Sample]:
    made = 0
    for number, size in enumerate(sizes):
        progress.step(f"filling up to {size:,} databases")
        _fill(cluster, size - made)
        made = max(made, size)
        for contender in rotated((BARE, PERUSERD), number):
            progress.step(f"{size:,} databases: {contender}")
            with serving(cluster, instances, contender):
                _latencies(cluster, contender, _WARM_UP, rate)
                yield Sample(contender, made, _latencies(cluster, contender, users, rate))
            made += _WARM_UP + users


def _fill(cluster: Cluster, count: int) -> None:
    names = cluster.new_names(max(0, count))
    cluster.sign_up(names)
    Bare(cluster).serve_all([names], _IN_FLIGHT)


def _latencies(cluster: Cluster, contender: str, users: int, rate: float) -> list[float]:
    """Sign users up and return how long each waited; raises ClusterError where one did in vain."""
    bare = Bare(cluster)
    arrivals = arrive(
        cluster, users, rate, then=(lambda each: bare.serve(each.name, each.number)) if contender == BARE else None
    )
    if arrivals.refused or arrivals.unserved:
        raise ClusterError(f"{arrivals.refused} users could not sign up, {arrivals.unserved} were not served")
    return arrivals.latencies_ms


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return how much slower the fullest cluster is than the emptiest, of each contender."""
    return {
        f"p50 on the fullest cluster / on the emptiest, {contender}": Figure(
            (percentile(own[-1].latencies_ms, 50) / percentile(own[0].latencies_ms, 50),), "", "lower"
        )
        for contender, own in _by_contender(samples).items()
    }


def _by_contender(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    contenders = dict.fromkeys(each.contender for each in samples)
    return {contender: [each for each in samples if each.contender == contender] for contender in contenders}


def _result(options: Options, version: str, samples: list[Sample], rate: float) -> Result:
    return Result(
        name="filling",
        parameters={"cluster": version, "rate": rate, "quick": options.quick},
        samples={"blocks": samples},
        tables=(
            Table(
                f"{rate:g} sign-ups a second on a cluster that fills up, {version}: latency in ms",
                ("databases", "served by", "users", "p50", "p90", "max"),
                tuple(_row(each) for each in samples),
            ),
        ),
        charts=(
            Chart(
                f"latency at {rate:g} sign-ups a second",
                "users' databases on the cluster",
                "p50 in ms",
                {
                    contender: [(float(each.databases), percentile(each.latencies_ms, 50)) for each in own]
                    for contender, own in _by_contender(samples).items()
                },
            ),
        ),
        figures=figures(samples),
    )


def _row(sample: Sample) -> tuple[str, ...]:
    return (
        f"{sample.databases:,}",
        sample.contender,
        str(len(sample.latencies_ms)),
        *(f"{percentile(sample.latencies_ms, percent):.0f}" for percent in (50, 90, 100)),
    )
