"""The reasons of a new plan, in plain words."""

import msgspec
import pytest

from peruserd.core.cluster.view_changes import MAX_REASONS, changes, upcoming_changes
from peruserd.core.cluster.views import View
from peruserd.core.ownership.ranges import Range, ShardMap

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
MAP = ShardMap("_users", ".1", {LOWER: ("n1", "n2"), UPPER: ("n2", "n3")})
VIEW = View(nodes=("n1", "n2", "n3"), instances=("n1", "n2", "n3"), shard_map=MAP)
SPLIT = ShardMap(
    "_users", ".1", {Range(0, 0x3FFFFFFF): ("n1",), Range(0x40000000, 0x7FFFFFFF): ("n1",), UPPER: ("n2",)}
)


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({"nodes": ("n1", "n2")}, ["node n3 is not connected any more"]),
        ({"nodes": ("n1", "n2", "n3", "n4")}, ["node n4 is connected"]),
        ({"instances": ("n1", "n3")}, ["the instance beside n2 has stopped, or gives no sign of life"]),
        ({"instances": ("n1", "n2", "n3", "n4")}, ["the instance beside n4 is alive"]),
        ({"standby": True}, ["another instance is active beside this node"]),
        ({"cut_off": True}, ["the connected nodes are no majority of the cluster"]),
        ({"shard_map": None}, ["the authentication database does not exist any more"]),
        (
            {"shard_map": ShardMap("_users", ".2", MAP.hosts)},
            ["the authentication database was deleted and made again"],
        ),
        (
            {"shard_map": SPLIT},
            [
                "range 00000000-7fffffff was split into 00000000-3fffffff, 40000000-7fffffff",
                "n3 has no copy of range 80000000-ffffffff any more",
            ],
        ),
        (
            {"shard_map": ShardMap("_users", ".1", {LOWER: ("n1", "n4"), UPPER: MAP.hosts[UPPER]})},
            [
                "n2 has no copy of range 00000000-7fffffff any more",
                "n4 has a copy of range 00000000-7fffffff",
            ],
        ),
        ({"shard_map": ShardMap("_users", ".1", {LOWER: ("n1", "n2")})}, ["range 80000000-ffffffff is gone"]),
        ({}, []),
    ],
)
def test_each_change_has_its_own_sentence(changed: dict[str, object], reasons: list[str]) -> None:
    """An operator reads what has happened, and not only that something has."""
    assert list(changes(VIEW, msgspec.structs.replace(VIEW, **changed))) == reasons


def test_the_opposite_change_is_said_as_well() -> None:
    """What ends is as important as what begins."""
    for trouble in ({"standby": True}, {"cut_off": True}, {"shard_map": None}):
        (reason,) = changes(msgspec.structs.replace(VIEW, **trouble), VIEW)
        assert reason in {
            "this instance became the active one",
            "a majority of the nodes is connected again",
            "the authentication database exists",
        }


def test_what_is_seen_and_not_in_force_is_told_apart() -> None:
    """During the quiet period the users concerned are left alone, and the reason must not look like a fact in force."""
    gone = msgspec.structs.replace(VIEW, instances=("n1", "n2"))
    assert upcoming_changes(VIEW, gone) == (
        "seen, and not in force yet: the instance beside n3 has stopped, or gives no sign of life",
    )
    assert upcoming_changes(VIEW, VIEW) == ()


def test_a_change_of_everything_is_cut() -> None:
    """A thousand ranges that move make no page of a thousand lines."""
    nodes = tuple(f"n{number:03}" for number in range(100))
    reasons = changes(VIEW, msgspec.structs.replace(VIEW, nodes=nodes))
    assert len(reasons) == MAX_REASONS
    assert reasons[-1] == f"and {103 - MAX_REASONS + 1} more"


def test_a_name_can_not_look_like_other_words() -> None:
    """The names come from a server, and a log or a terminal may show the sentence."""
    (reason,) = changes(VIEW, msgspec.structs.replace(VIEW, nodes=(*VIEW.nodes, "z\x1b[2J\u202e\n")))
    assert reason == "node z\\x1b[2J\\u202e\\x0a is connected"
