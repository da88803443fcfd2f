"""The cost of a listener's work by the number of users whose feed it reads: it should be the same for each.

Nothing that a listener keeps grows with the users it has served, but for those of a scan under way (their ids, so that
the second sweep need not look at them) and those in quarantine.
"""

from typing import Final

from bench.pipeline.playing import Playing, play
from bench.results import Chart, Table

USERS: Final = (1_000, 10_000, 100_000, 400_000)
QUICK_USERS: Final = (1_000, 5_000)

# Owned users cost forty times what others' do; more of them would only take longer.
_MAX_OWNED: Final = 100_000


def measure(*, quick: bool) -> list[Playing]:
    """Play feeds of several lengths to a listener, of others' users and of its own who are right already."""
    sizes = QUICK_USERS if quick else USERS
    return [play(size, owned=owned) for owned in (False, True) for size in sizes if not owned or size <= _MAX_OWNED]


def table(played: list[Playing]) -> Table:
    """Return what a user costs by how many there are."""
    return Table(
        "One listener that reads its range from the start",
        ("users", "whose", "seconds", "microseconds a user"),
        tuple((f"{each.rows:,}", _whose(each), f"{each.seconds:.2f}", f"{_microseconds(each):.2f}") for each in played),
    )


def chart(played: list[Playing]) -> Chart:
    """Return the cost of a user over the number of users."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for each in played:
        lines.setdefault(_whose(each), []).append((float(each.rows), _microseconds(each)))
    return Chart("a listener's cost by users", "users", "µs a user", lines, logarithmic=True)


def _whose(played: Playing) -> str:
    return "its own, and right" if played.owned else "others'"


def _microseconds(played: Playing) -> float:
    return 1e6 * played.seconds / played.rows
