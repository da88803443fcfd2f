"""The benchmark `idle`: its sums, and one small run. No test looks at the time that something took."""

from pathlib import Path

import msgspec
import pytest

from bench import idle
from bench.benchmark import Options, run
from bench.idle import (
    FORK_SERVER,
    LISTENER,
    ROLES,
    SUPERVISOR,
    TRACKER,
    Course,
    Process,
    Sample,
    memory,
    percent,
    report,
    role,
)

SAMPLE = Sample(
    2,
    20.0,
    [
        Process(SUPERVISOR, 0.1, 30.0, 50.0),
        Process(FORK_SERVER, 0.0, 8.0, 28.0),
        Process(LISTENER, 0.02, 9.0, 30.0),
        Process(LISTENER, 0.04, 11.0, 30.0),
    ],
    {"GET dbs": 10, "PUT local": 4},
)


@pytest.mark.parametrize(
    ("parent", "command", "expected"),
    [
        pytest.param(7, "python -c from multiprocess.resource_tracker import main;main(5)", TRACKER, id="tracker"),
        pytest.param(7, "python -c from multiprocess.forkserver import main; main(9)", FORK_SERVER, id="fork server"),
        pytest.param(8, "python -c from multiprocess.forkserver import main; main(9)", LISTENER, id="forked"),
        pytest.param(7, "python -c from multiprocess.spawn import spawn_main; …", LISTENER, id="spawned"),
    ],
)
def test_processes_are_told_apart(parent: int, command: str, expected: str) -> None:
    """The parent decides, and the command line: a forked listener has that of the fork server."""
    assert role(parent, 7, command) == expected


def test_processor_time_is_of_a_core_and_by_role() -> None:
    """The time of a role is the sum over its processes, and the whole is the sum of all roles."""
    assert percent(SAMPLE) == pytest.approx({SUPERVISOR: 0.5, FORK_SERVER: 0.0, TRACKER: 0.0, LISTENER: 0.3})
    assert SAMPLE.percent == pytest.approx(0.8)


def test_memory_is_summed_up_by_role() -> None:
    """Each role has a mean and a largest value, which are 0 for a role without processes."""
    assert memory(SAMPLE, LISTENER) == (10.0, 11.0)
    assert memory(SAMPLE, TRACKER) == (0.0, 0.0)


def test_requests_are_by_the_minute() -> None:
    """The time of counting does not matter. Where requests were not counted, there is no table of them."""
    assert SAMPLE.requests_a_minute == 42.0
    tables = report(Course(), [SAMPLE]).tables
    assert ("2", "30.0", "12.0", "42.0") in [row for table in tables for row in table.rows]
    uncounted = Sample(2, 20.0, SAMPLE.processes)
    assert len(report(Course(), [uncounted]).tables) == len(tables) - 1


def test_runs_are_compared_by_their_goals() -> None:
    """The goal of processor time is for the fewest listeners, the goal of memory for every number of them."""
    more = Sample(8, 20.0, SAMPLE.processes)
    found = idle.figures([SAMPLE, more])
    assert found["memory of the largest listener, 8 listeners"].values == (11.0,)
    assert {name for name, each in found.items() if each.goal is None} == {
        "processor time, 8 listeners",
        "requests a minute, 2 listeners",
    }


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a simulated cluster every process of the instance is found, and no user's database is asked for."""
    monkeypatch.setattr(idle, "QUICK", msgspec.structs.replace(idle.QUICK, seconds=1.0, start_work_seconds=0.5))
    found = run("idle", idle, Options(quick=True))
    sample: Sample
    (sample,) = found.samples
    assert sample.listeners == 2
    assert {each.role for each in sample.processes} <= set(ROLES)
    assert sum(each.role == SUPERVISOR for each in sample.processes) == 1
    assert all(each.uss_mib > 0 for each in sample.processes)
    assert sample.requests is not None
    assert not {"GET security", "PUT security", "PUT database", "POST dbs_docs"} & sample.requests.keys()
    assert found.write_json(tmp_path).exists()
    assert found.write_chart(tmp_path).exists()
