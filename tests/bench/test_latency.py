"""The benchmark `latency`: its sums, and one small run."""

import pytest

from bench import latency
from bench.benchmark import Options, run
from bench.harness.contenders import BARE, BUILTIN, PERUSERD
from bench.latency import GOAL_RATE, UNWATCHED, Sample, figures, pooled


def _sample(contender: str, latencies_ms: list[float], rate: float = GOAL_RATE, number: int = 0) -> Sample:
    return Sample(contender, rate, number, latencies_ms, [1.0] if contender == BARE else [], 0, 0)


def test_latencies_of_all_rounds_are_judged_together() -> None:
    """A percentile is of all users of a contender at one rate, and not of single rounds."""
    samples = [
        _sample(PERUSERD, [1.0, 2.0], number=0),
        _sample(PERUSERD, [3.0], number=1),
        _sample(PERUSERD, [99.0], rate=5.0),
        _sample(BARE, [5.0]),
    ]
    assert pooled(samples, PERUSERD, GOAL_RATE) == [1.0, 2.0, 3.0]
    assert pooled(samples, BARE, GOAL_RATE) == [5.0]
    assert pooled(samples, UNWATCHED, GOAL_RATE) == [1.0]


def test_goals_are_differences_and_ratios_of_one_run() -> None:
    """The median is compared with the bare pair's by difference, the p99 by ratio; couch_peruser's median by ratio."""
    samples = [_sample(BARE, [50.0, 60.0, 90.0]), _sample(PERUSERD, [60.0, 66.0, 99.0]), _sample(BUILTIN, [55.0] * 3)]
    found = {name: each.values[0] for name, each in figures(samples).items()}
    assert found["p50 over the bare pair's"] == pytest.approx(6.0)
    assert found["p99 / the bare pair's"] == pytest.approx(1.1)
    assert found["p50 / couch_peruser's"] == pytest.approx(1.2)


def test_without_couch_peruser_nothing_is_compared_to_it() -> None:
    """A simulated cluster is such a case."""
    assert set(figures([_sample(BARE, [1.0]), _sample(PERUSERD, [1.0])])) == {
        "p50 over the bare pair's",
        "p99 / the bare pair's",
    }


def test_a_quick_run_serves_everybody() -> None:
    """On a simulated cluster every sign-up has its latency, and the bare pair has a second one by its own clock."""
    result = run("latency", latency, Options(quick=True))
    blocks: list[Sample] = result.samples
    assert [(each.unserved, each.refused) for each in blocks] == [(0, 0)] * 2
    assert {each.contender: len(each.latencies_ms) for each in blocks} == {BARE: 10, PERUSERD: 10}
    assert [len(each.unwatched_ms) for each in blocks if each.contender == BARE] == [10]
    assert UNWATCHED in result.text()
