"""The benchmark `provision`: its sums, and one small run."""

import time
from concurrent.futures import Future
from unittest import mock

import pytest

from bench import provision
from bench.benchmark import Options, run
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.contenders import BUILTIN, PERUSERD
from bench.provision import Sample, _wait, ceiling, figures, summary


def _sample(contender: str, rate: float, number: int = 0, unserved: int = 0) -> Sample:
    users = 100
    seconds = (users - unserved) / rate
    return Sample(contender, number, users, unserved, seconds, [], 2.0 if contender == PERUSERD else None)


def test_the_ceiling_is_the_best_of_the_bare_loops_by_medians() -> None:
    """One lucky round does not make a loop the best."""
    samples = [
        *(_sample(ceiling(8), rate, number) for number, rate in enumerate((50.0, 52.0, 90.0))),
        *(_sample(ceiling(16), rate, number) for number, rate in enumerate((60.0, 61.0, 62.0))),
        *(_sample(PERUSERD, rate, number) for number, rate in enumerate((54.0, 54.9, 99.0))),
        *(_sample(BUILTIN, rate, number) for number, rate in enumerate((20.0, 30.0, 40.0))),
    ]
    found = summary(samples)
    assert found.best == ceiling(16)
    assert found.of_ceiling == pytest.approx(54.9 / 61.0)
    assert found.of_builtin == pytest.approx(54.9 / 30.0)
    assert figures(samples)["processor time of a user"].values == (2.0,) * 3
    assert figures(samples)["peruserd / ceiling"].goal == 0.9


def test_users_who_were_not_served_do_not_count_as_served() -> None:
    """A contender that stops halfway gets the rate of the users whom it served."""
    assert _sample(BUILTIN, 25.0, unserved=50).rate == pytest.approx(25.0)


def test_without_couch_peruser_there_is_no_ratio_to_it() -> None:
    """A simulated cluster is such a case, and there is no figure then."""
    samples = [_sample(ceiling(8), 50.0), _sample(PERUSERD, 45.0)]
    found = summary(samples)
    assert found.of_builtin is None
    assert not [name for name in figures(samples) if BUILTIN in name]


def test_a_loop_that_fails_ends_the_run() -> None:
    """The run ends at once with the error of the loop, and does not wait for the loop's users."""
    cluster = mock.Mock(spec=Cluster, urls=["http://a"])
    cluster.database_count.return_value = 0
    load: Future[None] = Future()
    load.set_exception(ClusterError("no space left"))
    with pytest.raises(ClusterError, match="no space left"):
        _wait(cluster, ["name"], time.monotonic(), 0, load)


def test_a_quick_run_serves_everybody_and_compares() -> None:
    """On a simulated cluster every contender serves all users, and the databases over time lead up to all of them."""
    result = run("provision", provision, Options(quick=True))
    runs: list[Sample] = result.samples
    assert {each.contender for each in runs} == {ceiling(16), ceiling(32), PERUSERD}
    assert [each.unserved for each in runs] == [0] * 3
    assert all(each.created[-1][1] == each.users for each in runs)
    assert "peruserd / ceiling" in result.text()
