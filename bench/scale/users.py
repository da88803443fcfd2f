"""The cost of one user for a listener, by the number of users whose feed it reads: it should be the same for each.

Two things that a listener keeps grow with the users:

- the ids of the users of a scan under way, so that the second sweep need not look at them;
- the users in quarantine.
"""

from collections.abc import Sequence
from typing import Final

from bench.listener.replay import Replay, replay
from bench.results import Chart, Table

# An owned user costs forty times as much as one of another instance, so the longest feeds would only take longer.
_MAX_OWNED: Final = 100_000


def measure(sizes: Sequence[int]) -> list[Replay]:
    """Replay feeds of several lengths to a listener: of others' users, and of its own users who are right already."""
    return [replay(size, owned=owned) for owned in (False, True) for size in sizes if not owned or size <= _MAX_OWNED]


def table(played: list[Replay]) -> Table:
    """Return the cost of a user by the number of users."""
    return Table(
        "One listener that reads its range from the start",
        ("users", "whose", "seconds", "microseconds a user"),
        tuple((f"{each.rows:,}", _whose(each), f"{each.seconds:.2f}", f"{_microseconds(each):.2f}") for each in played),
    )


def chart(played: list[Replay]) -> Chart:
    """Return the cost of a user over the number of users."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for each in played:
        lines.setdefault(_whose(each), []).append((float(each.rows), _microseconds(each)))
    return Chart("a listener's cost by users", "users", "µs a user", lines, logarithmic=True)


def _whose(played: Replay) -> str:
    return "its own, right already" if played.owned else "others'"


def _microseconds(played: Replay) -> float:
    return 1e6 * played.seconds / played.rows
