"""The tables and charts of the benchmark `restart`."""

from collections.abc import Sequence
from statistics import median

from bench.restart.measurement import Course
from bench.restart.samples import KEPT, LOST, Reading, Restart, Sample
from bench.restart.summary import MAX_FIRST_SECONDS, Summary, summaries
from bench.results import Chart, Report, Table, spread


def report(course: Course, samples: Sequence[Sample]) -> Report:  # noqa: ARG001 - as a benchmark has it
    """Return starts and rates as tables, and both by the number of users as charts."""
    found = summaries(samples)
    restarts = [each for each in samples if isinstance(each, Restart)]
    readings = [each for each in samples if isinstance(each, Reading)]
    return Report(
        tables=(_restarts_table(restarts), _scans_table(found, restarts, readings)),
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
    )


def _restarts_table(restarts: Sequence[Restart]) -> Table:
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
        "Stopped and started: seconds from the start of the processes, median (least–most), "  # noqa: RUF001
        "and requests about user databases until all was settled",
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
