"""Summing the benchmark `restart` up."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from bench.restart.runs import CREATED, KEPT, LOOKED_UP, LOST, READ, SCANNED, Reading, Restart, Run
from bench.results import Chart, Figure, Options, Result, Table, spread

MAX_FIRST_SECONDS: Final = 3.0
FLOOR_OF_BARE: Final = 0.7


class Summary(msgspec.Struct, frozen=True):
    """Of one number of users: medians of the rounds, the best of the bare readings, the most asked of others."""

    users: int
    ready: dict[str, float]
    new_user: dict[str, float]
    scan_rate: float
    bare_rate: float
    bare_in_flight: int
    asked_of_others: int

    @property
    def of_bare(self) -> float:
        """Return the scan's rate as a part of the bare one."""
        return self.scan_rate / self.bare_rate


def asked_of_others(requests: Mapping[str, int]) -> int:
    """Return how many requests were about users other than those who signed up.

    Serving a new user is to create the database and to read and write its security object; whatever was read beyond
    that, and every question which databases there are, was about somebody who was served already.
    """
    reads = requests.get(READ, 0) - requests.get(CREATED, 0)
    return max(0, reads) + requests.get(LOOKED_UP, 0) + requests.get(SCANNED, 0)


def summaries(runs: Iterable[Run]) -> list[Summary]:
    """Sum the runs up by the number of users: medians, and of what must not be, the most."""
    runs = list(runs)
    return [
        _summary(users, [each for each in runs if each.users == users]) for users in {each.users: 0 for each in runs}
    ]


def _summary(users: int, runs: Sequence[Run]) -> Summary:
    restarts = [each for each in runs if isinstance(each, Restart)]
    readings = [each for each in runs if isinstance(each, Reading)]
    bare = {
        each.in_flight: median(one.rate for one in readings if one.in_flight == each.in_flight) for each in readings
    }
    best = max(bare, key=bare.__getitem__)
    return Summary(
        users=users,
        ready={name: median(each.ready for each in restarts if each.contender == name) for name in (KEPT, LOST)},
        new_user={name: median(each.new_user for each in restarts if each.contender == name) for name in (KEPT, LOST)},
        scan_rate=median(each.rate for each in restarts if each.contender == LOST),
        bare_rate=bare[best],
        bare_in_flight=best,
        asked_of_others=max(asked_of_others(each.requests) for each in restarts if each.contender == KEPT),
    )


def result(options: Options, version: str, runs: Sequence[Run]) -> Result:
    """Return all that was found, as tables and charts."""
    found = summaries(runs)
    restarts = [each for each in runs if isinstance(each, Restart)]
    readings = [each for each in runs if isinstance(each, Reading)]
    return Result(
        name="restart",
        parameters={"cluster": version, "users": [each.users for each in found], "quick": options.quick},
        samples={"restarts": restarts, "readings": readings},
        tables=(
            _restarts_table(version, restarts),
            _scans_table(found, restarts, readings),
        ),
        charts=(
            Chart(
                "from the start of the processes",
                "users",
                "seconds",
                {
                    "all ready, state lost": [(each.users, each.ready[LOST]) for each in found],
                    "all ready, with checkpoints": [(each.users, each.ready[KEPT]) for each in found],
                    "new user served, state lost": [(each.users, each.new_user[LOST]) for each in found],
                    "new user served, with checkpoints": [(each.users, each.new_user[KEPT]) for each in found],
                },
                limit=MAX_FIRST_SECONDS,
                limit_label="goal for the new user",
            ),
            Chart(
                "rate of a scan",
                "users",
                "users/s",
                {
                    "scan": [(each.users, each.scan_rate) for each in found],
                    "bare reads": [(each.users, each.bare_rate) for each in found],
                },
            ),
        ),
        figures=figures(runs),
    )


def figures(runs: Iterable[Run]) -> dict[str, Figure]:
    """Return what runs are compared by. The ratio is a single value: it is of medians."""
    runs = list(runs)
    made: dict[str, Figure] = {}
    for each in summaries(runs):
        restarts = [one for one in runs if isinstance(one, Restart) and one.users == each.users]
        kept = [one for one in restarts if one.contender == KEPT]
        scans = tuple(one.ready for one in restarts if one.contender == LOST)
        made |= {
            f"new user served, {each.users:,} users": Figure(
                tuple(one.new_user for one in kept), "s", "lower", MAX_FIRST_SECONDS
            ),
            f"requests about other users, {each.users:,} users": Figure(
                (float(each.asked_of_others),), "", "lower", 0.0
            ),
            f"ready with the state lost, {each.users:,} users": Figure(scans, "s", "lower"),
            f"scan / bare reads, {each.users:,} users": Figure((each.of_bare,), "", "higher", FLOOR_OF_BARE),
        }
    return made


def _restarts_table(version: str, restarts: Sequence[Restart]) -> Table:
    groups: dict[tuple[int, str], list[Restart]] = {}
    for each in restarts:
        groups.setdefault((each.users, each.contender), []).append(each)
    kinds = list(dict.fromkeys(kind for each in restarts for kind in each.requests))
    rows = []
    for (users, contender), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] != KEPT)):
        times = ([each.new_user for each in group], [each.ready for each in group], [each.settled for each in group])
        requests = (spread([each.requests[kind] for each in group], "{:,.0f}") for kind in kinds)
        rows.append((f"{users:,}", contender, *(spread(each, "{:.1f}") for each in times), *requests))
    return Table(
        f"Stopped and started, {version}: seconds from the start of the processes, median (least–most), "  # noqa: RUF001
        "and what was asked of user databases until all was settled",
        ("users", "started", "new user served", "all ready", "all settled", *kinds),
        tuple(rows),
    )


def _scans_table(found: Sequence[Summary], restarts: Sequence[Restart], readings: Sequence[Reading]) -> Table:
    rows = []
    for each in found:
        scans = [one.rate for one in restarts if one.users == each.users and one.contender == LOST]
        rows.append((f"{each.users:,}", f"scan, {LOST}", spread(scans, "{:.0f}"), f"{each.of_bare:.2f}"))
        mine = [one for one in readings if one.users == each.users]
        for in_flight in sorted({one.in_flight for one in mine}):
            rates = [one.rate for one in mine if one.in_flight == in_flight]
            part = f"{median(rates) / each.bare_rate:.2f}"
            rows.append((f"{each.users:,}", f"bare reads, {in_flight} in flight", spread(rates, "{:.0f}"), part))
    return Table(
        "Users a second of a scan (all users, from the start of the processes until all are ready) and of bare reads",
        ("users", "what", "users/s", "of the best bare reads"),
        tuple(rows),
    )
