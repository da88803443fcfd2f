"""The benchmark `restart`: its sums, and that it runs. Nothing is asserted of time spent."""

from pathlib import Path

import pytest

from bench.restart.run import QUICK, measure
from bench.restart.runs import (
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
)
from bench.restart.summing import asked_of_others, result, summaries
from bench.results import Options
from bench.rig.cluster import open_cluster
from bench.rig.progress import steps
from peruserd.simcluster import ClusterOptions

_ONLY_NEW = {CREATED: 1, READ: 1, WRITTEN: 1, LOOKED_UP: 0}


def restart(contender: str, number: int, *, users: int = 1_000, ready: float = 2.0, reads: int = 1) -> Restart:
    """Return a start after which everything went well, but for reads."""
    return Restart(contender, users, number, ready, ready / 2, ready + 5, {**_ONLY_NEW, READ: reads})


RUNS = [
    restart(KEPT, 0),
    restart(KEPT, 1, ready=3.0, reads=41),
    restart(KEPT, 2),
    restart(LOST, 0, ready=4.0),
    restart(LOST, 1, ready=5.0),
    restart(LOST, 2, ready=20.0),
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
        pytest.param({LIVE: 1, SCANNED: 0}, 0, id="nobody but the new user taken up"),
        pytest.param({LIVE: 3, SCANNED: 700}, 700, id="taken up by a scan"),
    ],
)
def test_only_requests_about_others_count(requests: dict[str, int], others: int) -> None:
    """Requests for the new user are nobody else's, however many instances make them."""
    assert asked_of_others(requests) == others


def test_rounds_are_summed_up_by_medians() -> None:
    """Times and rates are medians, the bare reads' of the best number in flight; one round that asks too much shows."""
    (found,) = summaries(RUNS)
    assert found.ready == {KEPT: 2.0, LOST: 5.0}
    assert found.new_user == {KEPT: 1.0, LOST: 2.5}
    assert (found.scan_rate, found.bare_rate, found.bare_in_flight) == (200.0, 250.0, 16)
    assert found.of_bare == 0.8
    assert found.asked_of_others == 40


def test_numbers_of_users_are_summed_up_apart() -> None:
    """Each number of users has a summary, a line of each contender and goals of its own."""
    more = [
        restart(KEPT, 0, users=5_000),
        restart(LOST, 0, users=5_000, ready=50.0),
        Reading(32, 5_000, 0, seconds=40.0),
    ]
    assert [each.users for each in summaries([*RUNS, *more])] == [1_000, 5_000]
    found = result(Options(quick=True), "CouchDB", [*RUNS, *more])
    starts, rates = found.tables
    assert [row[:2] for row in starts.rows] == [
        ("1,000", KEPT),
        ("1,000", LOST),
        ("5,000", KEPT),
        ("5,000", LOST),
    ]
    assert ("5,000", "bare reads, 32 in flight", "125", "1.00") in rates.rows
    assert found.figures["requests about other users, 1,000 users"].values == (40.0,), "one bad start is not averaged"
    assert found.figures["scan / bare reads, 5,000 users"].values == (0.8,)


def test_it_runs(tmp_path: Path) -> None:
    """On a small simulated cluster, with its state and without it, the new user is served and everybody stays so."""
    with open_cluster((), ClusterOptions(nodes=2, n=2)) as cluster, steps("restart", 4) as progress:
        runs = list(measure(cluster, 30, 1, (4,), progress, QUICK))
        version = cluster.version()
        users = [name for name in cluster.sim.databases() if name.startswith("userdb-")] if cluster.sim else []
    assert [type(each) for each in runs] == [Restart, Restart, Reading]
    lost = next(each for each in runs if isinstance(each, Restart) and each.contender == LOST)
    assert lost.requests[READ] > 30
    assert len(users) == 32
    found = result(Options(quick=True), version, runs)
    assert found.write_json(tmp_path).exists()
    assert found.write_chart(tmp_path).exists()
