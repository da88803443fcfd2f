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
    """Its copies come into being then, and may be secured by nobody."""
    creations = Creations()
    assert creations.connected(["n1", "n2", "n3"]) == ()
    creations.note("before", 0.0)
    assert creations.connected(["n1", "n2"]) == ()
    creations.note("a", 1.0)
    assert creations.connected(["n1"]) == ()
    creations.note("b", 2.0)
    assert creations.connected(["n1", "n3"]) == ("a", "b")
    assert creations.connected(["n1", "n2", "n3"]) == ("a", "b")
    creations.note("after", 3.0)
    assert creations.connected(["n1", "n2", "n3"]) == ()


def test_creations_without_a_node_are_bounded() -> None:
    """A node that is gone for good does not fill the memory."""
    creations = Creations()
    creations.connected(["n1", "n2"])
    creations.connected(["n1"])
    for number in range(10_010):
        creations.note(str(number), float(number))
    assert len(creations.connected(["n1", "n2"])) == 10_000
