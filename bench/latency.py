"""The benchmark `latency`: how long a user waits for a secured database, at steady rates below saturation.

Three contenders serve the same rates in turns:

- peruserd, with an instance beside each node;
- the two bare requests, made by the thread that signed the user up;
- couch_peruser, where the server has it.

Before each turn the cluster is cleaned of the one before, because CouchDB reads through the list of all databases
whenever a database is made.

A latency is from the answer to the user document until the database is seen to be secured, by the same watch for all.
The time that the bare requests took by themselves is shown as well.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.arrivals import Arrivals, arrive
from bench.harness.bare import Bare
from bench.harness.cluster import Cluster
from bench.harness.contenders import BARE, BUILTIN, PERUSERD, available, rotated, serving
from bench.harness.daemons import QUICK_CLUSTER
from bench.harness.open_loop import LEAD_SECONDS, SignUp
from bench.harness.progress import Steps
from bench.results import Chart, Figure, Report, Table, percentile

# The goals are of this rate.
GOAL_RATE: Final = 10.0
MAX_OVER_BARE_MS: Final = 15.0
MAX_RATIO_TO_BUILTIN: Final = 1.1
MAX_RATIO_TO_BARE_P99: Final = 1.5

# The time of the bare requests as their senders saw it, without the watch.
UNWATCHED: Final = f"{BARE}, by its own clock"


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The sign-ups a second, the rounds, the seconds of each turn, and the seconds before its first sign-up.

    The `warm_up` users of a turn are not counted: they open connections, start threads and fill caches.
    """

    rates: tuple[float, ...] = (5.0, GOAL_RATE, 20.0)
    rounds: int = 3
    seconds: float = 20.0
    warm_up: int = 10
    lead_seconds: float = LEAD_SECONDS


QUICK: Final = Course(rates=(GOAL_RATE,), rounds=1, seconds=1.0, warm_up=3, lead_seconds=0.02, settings=QUICK_CLUSTER)


class Sample(msgspec.Struct, frozen=True):
    """One contender at one rate in one round: the latency of each user in milliseconds, in the order of the sign-ups.

    `unwatched_ms` is the time that the bare requests took by themselves. `unserved` users waited in vain, and `refused`
    users could not sign up.
    """

    contender: str
    rate: float
    round: int
    latencies_ms: list[float]
    unwatched_ms: list[float]
    unserved: int
    refused: int


def course(options: Options) -> Course:
    """Return the size of the run; it takes half a minute a contender, rate and round."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Let each contender serve each rate in each round."""
    cluster = setting.cluster
    contenders = available(cluster, [BARE, PERUSERD, BUILTIN])
    steps.expect(course.rounds * len(contenders) * len(course.rates))
    for number in range(course.rounds):
        for rate in course.rates:
            for contender in rotated(contenders, number):
                steps.step(f"round {number + 1}: {rate:g}/s, {contender}")
                with serving(cluster, setting.instances, contender):
                    _arrive(cluster, contender, rate, course.warm_up, course.lead_seconds)
                    arrivals, unwatched = _arrive(
                        cluster, contender, rate, int(rate * course.seconds), course.lead_seconds
                    )
                    yield Sample(
                        contender=contender,
                        rate=rate,
                        round=number,
                        latencies_ms=arrivals.latencies_ms,
                        unwatched_ms=unwatched,
                        unserved=arrivals.unserved,
                        refused=arrivals.refused,
                    )
                cluster.clean()


def _arrive(
    cluster: Cluster, contender: str, rate: float, users: int, lead_seconds: float
) -> tuple[Arrivals, list[float]]:
    """Let users sign up; return how long they waited, and the bare requests' own times, where they made them."""
    bare = _BareUsers(cluster) if contender == BARE else None
    arrivals = arrive(cluster, users, rate, then=None if bare is None else bare.serve, lead_seconds=lead_seconds)
    return arrivals, [] if bare is None else bare.milliseconds


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
    """Return the latencies of a contender at a rate, of all rounds. `UNWATCHED` counts as a contender here."""
    if contender == UNWATCHED:
        return [ms for each in samples if (each.contender, each.rate) == (BARE, rate) for ms in each.unwatched_ms]
    return [ms for each in samples if (each.contender, each.rate) == (contender, rate) for ms in each.latencies_ms]


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return differences and ratios at `GOAL_RATE`."""

    def of(contender: str, percent: float) -> float:
        return percentile(pooled(samples, contender, GOAL_RATE), percent)

    found = {
        "p50 over the bare pair's": Figure((of(PERUSERD, 50) - of(BARE, 50),), "ms", "lower", MAX_OVER_BARE_MS),
        "p99 / the bare pair's": Figure((of(PERUSERD, 99) / of(BARE, 99),), "", "lower", MAX_RATIO_TO_BARE_P99),
    }
    if any(each.contender == BUILTIN for each in samples):
        ratio = of(PERUSERD, 50) / of(BUILTIN, 50)
        found["p50 / couch_peruser's"] = Figure((ratio,), "", "lower", MAX_RATIO_TO_BUILTIN)
    return found


def report(course: Course, samples: Sequence[Sample]) -> Report:
    """Return the percentiles as a table; the latencies at `GOAL_RATE`, and percentiles by rate, as charts."""
    shown = [each for each in (BARE, UNWATCHED, PERUSERD, BUILTIN) if pooled(samples, each, course.rates[0])]
    table = Table(
        "From the user document's answer to the database secured, in milliseconds",
        ("users/s", "served by", "users", "p50", "p90", "p99", "most", "not served"),
        tuple(_row(samples, contender, rate) for rate in course.rates for contender in shown),
    )
    at_goal = {contender: _distribution(pooled(samples, contender, GOAL_RATE)) for contender in shown}
    return Report(
        tables=(table,),
        charts=(
            Chart(f"latency at {GOAL_RATE:g}/s", "ms", "share of users", at_goal),
            *(_by_rate(course, samples, shown, percent) for percent in (50.0, 99.0)),
        ),
    )


def _by_rate(course: Course, samples: Sequence[Sample], shown: Sequence[str], percent: float) -> Chart:
    lines = {
        contender: [(rate, percentile(pooled(samples, contender, rate), percent)) for rate in course.rates]
        for contender in shown
    }
    return Chart(f"p{percent:g} by rate", "users/s", "ms", lines)


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
