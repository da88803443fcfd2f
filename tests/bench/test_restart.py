"""The benchmark `restart`: its sums, and one small run. No test looks at the time that something took."""

from pathlib import Path

import msgspec
import pytest

from bench import restart
from bench.benchmark import Options, run
from bench.restart import measurement
from bench.restart.measurement import QUICK, Course
from bench.restart.samples import (
    CREATED,
    KEPT,
    LIVE,
    LOOKED_UP,
    LOST,
    READ,
    SCANNED,
    WRITTEN,
    Reading,
    Restart,
    Sample,
)
from bench.restart.served_cluster import ServedCluster
from bench.restart.summary import asked_of_others, summaries
from peruserd.simcluster import ClusterOptions

_ONLY_NEW = {CREATED: 1, READ: 1, WRITTEN: 1, LOOKED_UP: 0}


def start(contender: str, number: int, *, users: int = 1_000, ready: float = 2.0, reads: int = 1) -> Restart:
    """Return a start in which only the number of reads may be wrong."""
    return Restart(contender, users, number, ready, ready / 2, ready + 5, {**_ONLY_NEW, READ: reads})


RUNS: list[Sample] = [
    start(KEPT, 0),
    start(KEPT, 1, ready=3.0, reads=41),
    start(KEPT, 2),
    start(LOST, 0, ready=4.0),
    start(LOST, 1, ready=5.0),
    start(LOST, 2, ready=20.0),
    Reading(8, 1_000, 0, seconds=5.0),
    Reading(8, 1_000, 1, seconds=5.0),
    Reading(16, 1_000, 0, seconds=4.0),
    Reading(16, 1_000, 1, seconds=4.0),
]


@pytest.mark.parametrize(
    ("requests", "others"),
    [
        pytest.param(_ONLY_NEW, 0, id="the new user alone"),
        pytest.param({CREATED: 3, READ: 3, WRITTEN: 1, LOOKED_UP: 0}, 0, id="the new user, by each instance"),
        pytest.param({CREATED: 1, READ: 8, WRITTEN: 1, LOOKED_UP: 2}, 9, id="a scan"),
        pytest.param({LIVE: 1, SCANNED: 0}, 0, id="only the new user taken up"),
        pytest.param({LIVE: 3, SCANNED: 700}, 700, id="taken up by a scan"),
    ],
)
def test_only_requests_about_others_count(requests: dict[str, int], others: int) -> None:
    """A request about the new user never counts, even if several instances make it."""
    assert asked_of_others(requests) == others


def test_rounds_are_summed_up_by_medians() -> None:
    """Times and rates are medians; the bare rate is the best one. A single round that asks too much shows."""
    (found,) = summaries(RUNS)
    assert found.ready == {KEPT: 2.0, LOST: 5.0}
    assert found.new_user == {KEPT: 1.0, LOST: 2.5}
    assert (found.scan_rate, found.bare_rate, found.bare_in_flight) == (200.0, 250.0, 16)
    assert found.of_bare == 0.8
    assert found.asked_of_others == 40


def test_numbers_of_users_are_summed_up_apart() -> None:
    """Each number of users has a summary, goals, and a line for each contender."""
    more: list[Sample] = [
        start(KEPT, 0, users=5_000),
        start(LOST, 0, users=5_000, ready=50.0),
        Reading(32, 5_000, 0, seconds=40.0),
    ]
    assert [each.users for each in summaries([*RUNS, *more])] == [1_000, 5_000]
    starts, rates = restart.report(Course(), [*RUNS, *more]).tables
    assert [row[:2] for row in starts.rows] == [
        ("1,000", KEPT),
        ("1,000", LOST),
        ("5,000", KEPT),
        ("5,000", LOST),
    ]
    assert ("5,000", "bare reads, 32 in flight", "125", "1.00") in rates.rows
    found = restart.figures([*RUNS, *more])
    assert found["requests about other users, 1,000 users"].values == (40.0,), "one bad start is not averaged"
    assert found["scan / bare reads, 5,000 users"].values == (0.8,)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small simulated cluster, with the state and without it, the new user is served and all others stay so."""
    small = msgspec.structs.replace(QUICK, simulated=(ClusterOptions(nodes=2, n=2),), users=(30,), in_flight=(4,))
    monkeypatch.setattr(measurement, "QUICK", small)
    users: list[str] = []

    def note_users(served: ServedCluster, contender: str, number: int) -> Restart:
        restarted = restart_once(served, contender, number)
        assert served._cluster.sim is not None
        users[:] = [name for name in served._cluster.sim.databases() if name.startswith("userdb-")]
        return restarted

    restart_once = ServedCluster.restart
    monkeypatch.setattr(ServedCluster, "restart", note_users)
    found = run("restart", restart, Options(quick=True))
    runs: list[Sample] = found.samples
    assert [type(each) for each in runs] == [Restart, Restart, Reading]
    lost = next(each for each in runs if isinstance(each, Restart) and each.contender == LOST)
    assert lost.requests[READ] > 30
    assert len(users) == 32
    assert found.write_json(tmp_path).exists()
    assert found.write_chart(tmp_path).exists()
