"""The sentence of `systemctl status`, from all that it is made of."""

import msgspec
import pytest

from peruserd.core.processes.status_line import Condition, sentence

WELL = Condition(healthy=(True, "ok"), ready=(True, "ok"), plan="listening to 2 of 2 ranges")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "listening to 2 of 2 ranges"),
        ({"ready": (True, "ok; 3 users in quarantine")}, "listening to 2 of 2 ranges; 3 users in quarantine"),
        ({"ready": (False, "waiting for CouchDB")}, "not ready: waiting for CouchDB"),
        ({"healthy": (False, "it hangs"), "ready": (False, "waiting")}, "not healthy: it hangs"),
        ({"away": ("n2", "n3")}, "listening to 2 of 2 ranges; not connected: n2, n3"),
        (
            {"couch_peruser": True},
            "listening to 2 of 2 ranges; couch_peruser is on at this node, and writes to the same databases",
        ),
        ({"couch_peruser": False}, "listening to 2 of 2 ranges"),
        (
            {"failing": ("cluster-watch",)},
            "listening to 2 of 2 ranges; the thread cluster-watch fails, and is tried again",
        ),
        (
            {"refused": "http.listen: odd"},
            "listening to 2 of 2 ranges; configuration refused, the one before is in force: http.listen: odd",
        ),
    ],
)
def test_the_most_important_comes_first(changed: dict[str, object], said: str) -> None:
    """What the instance does is said only if nothing keeps it from that."""
    assert sentence(msgspec.structs.replace(WELL, **changed)) == said


def test_a_node_that_is_away_is_named_beside_the_reason() -> None:
    """Where the instance is not ready, the node is often the cause."""
    said = sentence(msgspec.structs.replace(WELL, ready=(False, "on hold"), away=("n2",)))
    assert said == "not ready: on hold; not connected: n2"


def test_many_names_are_counted() -> None:
    """A line of the terminal has room for some names, and none of them can steer the terminal."""
    nodes = tuple(f"n{number}\x1b" for number in range(9))
    said = sentence(msgspec.structs.replace(WELL, away=nodes))
    assert said.endswith("not connected: n0\\x1b, n1\\x1b, n2\\x1b and 6 more")
