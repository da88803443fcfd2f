import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.processes.counters import LATENCY_BUCKETS, STATUSES, Counters, Histogram, outcome_of

COUNTS = st.integers(0, 10**9)
KINDS = st.dictionaries(st.sampled_from(["timeout", "no_majority", "server"]), COUNTS)
PLAIN = [field.name for field in msgspec.structs.fields(Counters) if field.type is int]


def _histogram(observations: list[float]) -> Histogram:
    histogram = Histogram()
    for seconds in observations:
        histogram.observe(seconds)
    return histogram


def _copied_histogram(histogram: Histogram) -> Histogram:
    return Histogram(list(histogram.buckets), histogram.sum_seconds)


# Seconds in eighths, so that sums do not depend on the order of adding.
LATENCIES = st.lists(st.integers(0, 800).map(lambda eighths: eighths / 8), max_size=8)
COUNTERS = st.builds(
    lambda plain, failures, changes, latency: Counters(
        **plain,
        failures=failures,
        access_changes=changes,
        requests=failures,
        latency=latency,
        request_latency=_copied_histogram(latency),
    ),
    plain=st.fixed_dictionaries(dict.fromkeys(PLAIN, COUNTS)),
    failures=KINDS,
    changes=KINDS,
    latency=LATENCIES.map(_histogram),
)


def _copied(counters: Counters) -> Counters:
    return msgspec.convert(msgspec.to_builtins(counters), Counters)


@given(one=COUNTERS, other=COUNTERS)
def test_adding_counters_adds_every_one_of_them(one: Counters, other: Counters) -> None:
    """A retired sum has lost nothing of what the dead listeners counted, whichever counter it is."""
    total = _copied(one)
    total.add(other)
    assert {name: getattr(total, name) for name in PLAIN} == {
        name: getattr(one, name) + getattr(other, name) for name in PLAIN
    }
    for kind in {*one.failures, *other.failures, "unknown"}:
        assert total.failures.get(kind, 0) == one.failures.get(kind, 0) + other.failures.get(kind, 0)
    for action in {*one.access_changes, *other.access_changes}:
        added = one.access_changes.get(action, 0) + other.access_changes.get(action, 0)
        assert total.access_changes[action] == added
    assert sum(total.latency.buckets) == sum(one.latency.buckets) + sum(other.latency.buckets)
    assert total.latency.sum_seconds == one.latency.sum_seconds + other.latency.sum_seconds
    for outcome in {*one.requests, *other.requests}:
        assert total.requests[outcome] == one.requests.get(outcome, 0) + other.requests.get(outcome, 0)
    assert sum(total.request_latency.buckets) == sum(one.request_latency.buckets) + sum(other.request_latency.buckets)


@given(one=COUNTERS, other=COUNTERS)
def test_a_sum_stands_apart_from_what_was_added(one: Counters, other: Counters) -> None:
    """Adding leaves the added counters as they were, and counting on in them does not change the sum."""
    before = _copied(other)
    total = _copied(one)
    total.add(other)
    assert other == before
    sum_so_far = _copied(total)
    other.failed("timeout")
    other.latency.observe(1.0)
    assert total == sum_so_far


def test_new_counters_share_nothing() -> None:
    """Counting in one listener's counters leaves another's at zero."""
    counters = Counters()
    counters.failed("timeout")
    counters.latency.observe(1.0)
    assert Counters().failures == {}
    assert sum(Counters().latency.buckets) == 0


def test_failures_are_counted_by_kind() -> None:
    """Each kind of failure has a count of its own."""
    counters = Counters()
    for kind in ("timeout", "server", "timeout"):
        counters.failed(kind)
    assert counters.failures == {"timeout": 2, "server": 1}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "200"), (404, "404"), (412, "412"), (503, "503"), (418, "4xx"), (302, "3xx"), (599, "5xx"), (204, "2xx")],
)
def test_an_answer_counts_by_its_status_or_by_its_class(status: int, outcome: str) -> None:
    """A proxy can answer with any status, so only the known ones have a count of their own."""
    assert outcome_of(status) == outcome


@given(status=st.integers(-1, 100_000))
def test_there_are_few_outcomes(status: int) -> None:
    """Whatever a server answers, the counts do not grow without bound."""
    assert outcome_of(status) in {*map(str, STATUSES), "1xx", "2xx", "3xx", "4xx", "5xx"}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (1.0, 7), (1.5, 8), (60.0, 12), (60.1, 13), (86_400.0, 13)],
)
def test_an_observation_falls_into_the_first_bucket_that_reaches_it(seconds: float, bucket: int) -> None:
    """Upper bounds are included, as Prometheus' `le` says; above the last bound there is one bucket more."""
    histogram = _histogram([seconds])
    assert [index for index, count in enumerate(histogram.buckets) if count] == [bucket]
    assert len(histogram.buckets) == len(LATENCY_BUCKETS) + 1


@given(first=LATENCIES, second=LATENCIES)
def test_adding_histograms_is_observing_in_one(first: list[float], second: list[float]) -> None:
    """Two listeners' latencies added are those of one listener that saw both."""
    total = _histogram(first)
    total.add(_histogram(second))
    assert total == _histogram(first + second)
