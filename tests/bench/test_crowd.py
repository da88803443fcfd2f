"""The benchmark `crowd`: its sums, and one small run. No test looks at the time that something took."""

from pathlib import Path
from unittest import mock

import pytest

from bench import __main__ as bench
from bench import crowd
from bench.benchmark import Options, run
from bench.crowd import measurement
from bench.crowd.measurement import OTHER, Course
from bench.crowd.samples import AFTER, AMIDST, BEFORE, COMING, Crowd, Sample, Single, by_phase
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.contenders import PERUSERD
from bench.harness.daemons import Daemons
from bench.harness.open_loop import SignUp
from bench.harness.watch import Watch


def _sample(contender: str, seconds: float, before: list[float], amidst: list[float]) -> Sample:
    singles = {BEFORE: before, COMING: [50.0], AMIDST: amidst, AFTER: [1.0]}
    return Sample(
        contender=contender,
        round=0,
        crowd=100,
        seconds=seconds,
        course=[(seconds, 100)],
        memory_mib=30.0,
        singles={phase: [Single(0.0, ms) for ms in latencies] for phase, latencies in singles.items()},
        unserved=0,
        refused=0,
    )


def test_single_users_belong_to_the_phase_in_which_they_signed_up() -> None:
    """The wait does not matter. A user who is not served has no latency, and one who is served early waits no time."""
    answers = {"early": 9.0, "between": 10.0, "first": 12.0, "last": 19.0, "late": 20.0, "never": 15.0, "refused": None}
    signed_up = [SignUp(number, name, 0.0, 0.0, at) for number, (name, at) in enumerate(answers.items())]
    served = {"early": 9.5, "between": 18.0, "first": 11.9, "last": 25.0, "late": 20.5}
    assert by_phase(signed_up, served, Crowd(came=10.0, written=12.0, went=20.0)) == {
        BEFORE: [Single(-1.0, 500.0)],
        COMING: [Single(0.0, 8_000.0)],
        AMIDST: [Single(2.0, 0.0), Single(9.0, 6_000.0)],
        AFTER: [Single(10.0, 500.0)],
    }


def test_a_crowd_whose_last_is_served_before_the_last_answer_is_over_then() -> None:
    """No single user is amidst such a crowd, and later users come after it."""
    phases = [Crowd(came=10.0, written=20.0, went=15.0).phase(at) for at in (9.0, 14.0, 16.0)]
    assert phases == [BEFORE, COMING, AFTER]


def test_the_crowd_is_compared_with_itself_and_with_the_other_checkout() -> None:
    """The wait amidst it is a ratio to the wait before it. The time of the crowd is a ratio to the other checkout's."""
    samples = [_sample(OTHER, 10.0, [10.0], [900.0]), _sample(PERUSERD, 10.4, [10.0, 20.0], [30.0, 100.0])]
    found = crowd.figures(samples)
    assert found["p99 amidst the crowd / before it"].values == pytest.approx((5.0,))
    assert found[f"p99 amidst the crowd / before it, {OTHER}"].values == pytest.approx((90.0,))
    assert found[f"time of the crowd / that of {OTHER}"].values == pytest.approx((1.04,))
    assert found["the crowd's rate"].values == pytest.approx((100 / 10.4,))
    assert all(each.is_reached for each in found.values())


def test_without_another_checkout_nothing_is_compared_with_it() -> None:
    """The wait amidst the crowd is judged all the same."""
    found = crowd.figures([_sample(PERUSERD, 10.0, [10.0], [200.0])])
    assert not any(OTHER in name for name in found)
    assert not found["p99 amidst the crowd / before it"].is_reached


def test_a_phase_in_which_nobody_signed_up_is_an_empty_row() -> None:
    """A small crowd can be served between two single users, and then there is no ratio."""
    samples = [_sample(PERUSERD, 1.0, [10.0], [])]
    assert "p99 amidst the crowd / before it" not in crowd.figures(samples)
    (singles, _) = crowd.report(Course(), samples).tables
    text = singles.text()
    assert [line for line in text.splitlines() if AMIDST in line] == [
        f"| {PERUSERD}  | {AMIDST}         | 0     |     |     |      |"
    ]


def test_a_crowd_that_nobody_serves_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of the served users alone would make a contender look fast."""
    monkeypatch.setattr(measurement, "_STUCK_SECONDS", 0.0)
    monkeypatch.setattr(measurement, "_LOOK_SECONDS", 0.01)
    watch = mock.Mock(spec=Watch, appeared={"ann": 1.0})
    with pytest.raises(ClusterError, match="2 users of the crowd were not served"):
        measurement._wait(watch, 3, 0.0, lambda: True)


def test_the_other_checkout_is_what_its_instances_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python looks for the package there first, and not in the directory in which the benchmark was started."""
    monkeypatch.chdir(tmp_path)
    instances = Daemons(mock.Mock(spec=Cluster), tmp_path, code=Path("other"))
    assert instances._settings == {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path / "other")}


def test_the_command_line_says_how_many_and_beside_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The benchmark gets both when it is asked for the size of the run."""
    course = mock.Mock(side_effect=ClusterError("it is asked for the size of the run"))
    monkeypatch.setattr(bench, "BENCHMARKS", {"crowd": mock.Mock(course=course)})
    assert bench.main(["crowd", "--users", "4000", "--beside", str(tmp_path)]) == 1
    course.assert_called_once_with(Options(quick=False, users=4_000, beside=tmp_path))


def test_the_number_of_users_is_that_of_the_crowd() -> None:
    """Without such a number, the quick run and the whole run have their own."""
    assert [crowd.course(Options(quick=quick)).crowd for quick in (True, False)] == [150, 20_000]
    assert crowd.course(Options(quick=False, users=4_000)).crowd == 4_000


def test_a_quick_run_serves_the_crowd_and_the_single_users() -> None:
    """On a simulated cluster all users are served, and each single user is in one of the phases."""
    result = run("crowd", crowd, Options(quick=True, users=60))
    (sample,) = result.samples
    assert (sample.crowd, sample.unserved, sample.refused) == (60, 0, 0)
    assert sample.course[-1][1] == 60
    assert len(sample.singles[BEFORE]) >= 9
    assert len(sample.singles[AFTER]) >= 9
    assert sample.memory_mib > 0
    assert "the crowd's rate" in result.figures
    assert "| served by" in result.text()
