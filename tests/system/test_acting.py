"""The check for two instances acting on one user at the same time finds such acts."""

import pytest

from peruserd.simcluster import Write
from tests.system.acting import Window, alternating, written


def journal(*entries: tuple[float, str]) -> list[Write]:
    """Return writes to one database: the moment and the node of each."""
    return [Write(seconds, node, "PUT", "userdb-61", "security") for seconds, node in entries]


@pytest.mark.parametrize(
    ("entries", "windows", "found"),
    [
        ([], [], False),
        ([(1, "a"), (2, "a"), (3, "a")], [], False),
        ([(1, "a"), (2, "b"), (3, "b")], [], False),
        ([(1, "a"), (2, "b"), (3, "a")], [], True),
        ([(1, "a"), (2, "b"), (3, "a")], [(1.5, 2.5)], False),
        ([(1, "a"), (2, "b"), (3, "a")], [(2.5, 2.5)], False),
        ([(1, "a"), (2, "b"), (3, "a")], [(3.5, 9)], True),
        ([(1, "a"), (2, "b"), (3, "a"), (4, "b")], [(1.5, 1.5)], True),
    ],
)
def test_two_that_alternate_outside_a_window_are_found(
    entries: list[tuple[float, str]],
    windows: list[Window],
    found: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """A takeover does not alternate; acts within a window are not checked."""
    assert bool(alternating(journal(*entries), windows)) is found


def test_databases_are_told_apart() -> None:
    """Two nodes may act at the same time on two users."""
    one, other = journal((1, "a"), (3, "a")), journal((2, "b"), (4, "b"))
    others = [Write(each.seconds, each.node, each.method, "userdb-62", each.kind) for each in other]
    assert not alternating(sorted([*one, *others], key=lambda each: each.seconds), [])
    mixed = sorted([*one, *other], key=lambda each: each.seconds)
    assert alternating(mixed, []) == {"userdb-61": mixed}


def test_audit_lines_of_two_instances_stand_for_a_journal() -> None:
    """They are put into the order of time. An operator's word has no listener, and is no write."""
    lines = [
        {"timestamp": f"2026-11-28T02:00:0{second}Z", "database": "userdb-61", "action": "create", "instance": node}
        for second, node in ((1, "a"), (3, "a"), (2, "b"))
    ]
    operators = {"timestamp": "2026-11-28T02:00:02Z", "database": "userdb-61", "action": "forget"}
    writes = written([*({**line, "listener": "00000000-7fffffff"} for line in lines), operators])
    assert [each.node for each in writes] == ["a", "b", "a"]
    assert writes[2].seconds - writes[0].seconds == pytest.approx(2.0)
    assert alternating(writes, []) == {"userdb-61": writes}
