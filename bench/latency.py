"""The benchmark `latency`: how long a user waits for a secured database, at steady rates below saturation.

Measured in turns, at the same rates: peruserd with an instance beside each node, the two bare requests made by whoever
signed up, and couch_peruser where the server has it. Each begins on a cluster cleaned of what the one before it made:
CouchDB reads through the list of all databases whenever one is made.

A latency is from the answer to the user document to the moment at which the database is seen to be secured, by the same
watch for all; how long the bare requests took by themselves is beside it.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench.results import Chart, Figure, Options, Result, Table, percentile
from bench.rig.arriving import arrive
from bench.rig.bare import Bare
from bench.rig.cluster import Cluster, open_cluster
from bench.rig.contenders import BARE, BUILTIN, PERUSERD, available, rotated, serving
from bench.rig.daemons import QUICK_CLUSTER, Daemons, daemons
from bench.rig.openloop import SignUp
from bench.rig.progress import Steps, steps

RATES: Final = (5.0, 10.0, 20.0)
ROUNDS: Final = 3
SECONDS: Final = 20.0

# At which rate the goals are.
GOAL_RATE: Final = 10.0
MAX_OVER_BARE_MS: Final = 15.0
MAX_OF_BUILTIN: Final = 1.1
MOST_OF_BARE_P99: Final = 1.5

# Connections are made, threads started and caches filled by the first few, which are not counted.
_WARM_UP: Final = 10

# The time of the bare requests as their senders saw it, without the watch.
UNWATCHED: Final = f"{BARE}, by its own clock"


class Sample(msgspec.Struct, frozen=True):
    """One contender at one rate in one round: the latency of each user in milliseconds, in the order of the sign-ups.

    `unwatched_ms` is what the bare requests took by themselves. `unserved` waited in vain, `refused` could not sign up.
    """

    contender: str
    rate: float
    round: int
    latencies_ms: list[float]
    unwatched_ms: list[float]
    unserved: int
    refused: int


def run(options: Options) -> Result:
    """Measure; this takes half a minute a contender, rate and round."""
    rates, rounds, seconds = ((GOAL_RATE,), 1, 1.0) if options.quick else (RATES, ROUNDS, SECONDS)
    config = QUICK_CLUSTER if options.quick else None
    with open_cluster(options.cluster) as cluster, daemons(cluster, config) as instances:
        contenders = available(cluster, [BARE, PERUSERD, BUILTIN])
        with steps("latency", rounds * len(contenders) * len(rates)) as progress:
            samples = list(_measure(cluster, instances, contenders, rates, rounds, seconds, progress))
        return _result(options, cluster.version(), samples, seconds)


def _measure(
    cluster: Cluster,
    instances: Daemons,
    contenders: Sequence[str],
    rates: Sequence[float],
    rounds: int,
    seconds: float,
    progress: Steps,
) -> Iterator[Sample]:
    for number in range(rounds):
        for rate in rates:
            for contender in rotated(contenders, number):
                progress.step(f"round {number + 1}: {rate:g}/s, {contender}")
                with serving(cluster, instances, contender):
                    _block(cluster, contender, rate, number, _WARM_UP)
                    yield _block(cluster, contender, rate, number, int(rate * seconds))
                cluster.clean()


def _block(cluster: Cluster, contender: str, rate: float, number: int, users: int) -> Sample:
    bare = _BareUsers(cluster) if contender == BARE else None
    arrivals = arrive(cluster, users, rate, then=None if bare is None else bare.serve)
    return Sample(
        contender=contender,
        rate=rate,
        round=number,
        latencies_ms=arrivals.latencies_ms,
        unwatched_ms=[] if bare is None else bare.milliseconds,
        unserved=arrivals.unserved,
        refused=arrivals.refused,
    )


class _BareUsers:
    """Users who make their databases themselves."""

    def __init__(self, cluster: Cluster) -> None:
        self._bare = Bare(cluster)
        self._lock = threading.Lock()
        self.milliseconds: list[float] = []

    def serve(self, signed_up: SignUp) -> None:
        begin = time.monotonic()
        self._bare.serve(signed_up.name, signed_up.number)
        with self._lock:
            self.milliseconds.append(1000 * (time.monotonic() - begin))


def pooled(samples: Sequence[Sample], contender: str, rate: float) -> list[float]:
    """Return all latencies of a contender at a rate, of all rounds; `UNWATCHED` is one too."""
    if contender == UNWATCHED:
        return [ms for each in samples if (each.contender, each.rate) == (BARE, rate) for ms in each.unwatched_ms]
    return [ms for each in samples if (each.contender, each.rate) == (contender, rate) for ms in each.latencies_ms]


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return what is compared and what the goals are of: differences and ratios at `GOAL_RATE`."""

    def of(contender: str, percent: float) -> float:
        return percentile(pooled(samples, contender, GOAL_RATE), percent)

    found = {
        "p50 over the bare pair's": Figure((of(PERUSERD, 50) - of(BARE, 50),), "ms", "lower", MAX_OVER_BARE_MS),
        "p99 / the bare pair's": Figure((of(PERUSERD, 99) / of(BARE, 99),), "", "lower", MOST_OF_BARE_P99),
    }
    if any(each.contender == BUILTIN for each in samples):
        found["p50 / couch_peruser's"] = Figure((of(PERUSERD, 50) / of(BUILTIN, 50),), "", "lower", MAX_OF_BUILTIN)
    return found


def _result(options: Options, version: str, samples: list[Sample], seconds: float) -> Result:
    rates = sorted({each.rate for each in samples})
    shown = [each for each in (BARE, UNWATCHED, PERUSERD, BUILTIN) if pooled(samples, each, rates[0])]
    return Result(
        name="latency",
        parameters={"cluster": version, "seconds": seconds, "quick": options.quick},
        samples={"blocks": samples},
        tables=(
            Table(
                f"From the user document's answer to the database secured, {version}, in milliseconds",
                ("users/s", "served by", "users", "p50", "p90", "p99", "most", "not served"),
                tuple(_row(samples, contender, rate) for rate in rates for contender in shown),
            ),
        ),
        charts=(
            Chart(
                f"latency at {GOAL_RATE:g}/s",
                "ms",
                "share of users",
                {contender: _distribution(pooled(samples, contender, GOAL_RATE)) for contender in shown},
            ),
            *(
                Chart(
                    f"p{percent:g} by rate",
                    "users/s",
                    "ms",
                    {
                        contender: [(rate, percentile(pooled(samples, contender, rate), percent)) for rate in rates]
                        for contender in shown
                    },
                )
                for percent in (50.0, 99.0)
            ),
        ),
        figures=figures(samples),
    )


def _row(samples: Sequence[Sample], contender: str, rate: float) -> tuple[str, ...]:
    latencies = pooled(samples, contender, rate)
    missed = sum(each.unserved + each.refused for each in samples if (each.contender, each.rate) == (contender, rate))
    return (
        f"{rate:g}",
        contender,
        str(len(latencies)),
        *(f"{percentile(latencies, percent):.0f}" for percent in (50, 90, 99, 100)),
        str(missed),
    )


def _distribution(latencies: Sequence[float]) -> list[tuple[float, float]]:
    ordered = sorted(latencies)
    return [(each, (place + 1) / len(ordered)) for place, each in enumerate(ordered)]
