"""Databases that were made here lately."""

from peruserd.core.creations import Creations


def test_a_creation_is_remembered_for_a_minute() -> None:
    """The row that tells of it comes within that time, and is no news."""
    creations = Creations()
    creations.note("a", 0.0)
    creations.note("b", 50.0)
    assert creations.includes("a", 60.0)
    assert not creations.includes("a", 61.0)
    assert not creations.includes("c", 0.0)


def test_creations_without_a_node_are_looked_at_when_it_is_back() -> None:
    """Its copies come into being then, and may be secured by nobody; each node is waited for by itself."""
    creations = Creations()
    assert creations.connected(["n1", "n2", "n3"]) == ()
    creations.note("before", 0.0)
    assert creations.connected(["n1", "n2"]) == ()
    creations.note("a", 1.0)
    assert creations.connected(["n1"]) == ()
    creations.note("b", 2.0)
    assert creations.connected(["n1", "n3"]) == ("a", "b")
    assert creations.connected(["n1", "n2", "n3"]) == ("b",)
    creations.note("after", 3.0)
    assert creations.connected(["n1", "n2", "n3"]) == ()


def test_a_node_that_was_away_from_the_beginning_is_waited_for() -> None:
    """The shard map names it, though it was never seen."""
    creations = Creations()
    creations.expect(["n1", "n2"])
    assert creations.connected(["n1"]) == ()
    creations.note("a", 0.0)
    assert creations.connected(["n1", "n2"]) == ("a",)


def test_a_node_that_is_gone_for_good_makes_nobody_be_looked_at_twice() -> None:
    """Another node that comes and goes is missed by itself."""
    creations = Creations()
    creations.connected(["n1", "n2", "gone"])
    creations.connected(["n1", "n2"])
    creations.note("a", 0.0)
    creations.connected(["n1"])
    creations.note("b", 1.0)
    assert creations.connected(["n1", "n2"]) == ("b",)
    creations.connected(["n1"])
    assert creations.connected(["n1", "n2"]) == ()


def test_creations_without_a_node_are_bounded() -> None:
    """A node that is gone for good does not fill the memory."""
    creations = Creations()
    creations.connected(["n1", "n2"])
    creations.connected(["n1"])
    for number in range(10_010):
        creations.note(str(number), float(number))
    assert len(creations.connected(["n1", "n2"])) == 10_000
