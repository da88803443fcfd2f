"""Databases that were made here lately."""

from peruserd.core.cluster.creations import Creations


def test_a_creation_is_remembered_for_a_minute() -> None:
    """The row of the new database arrives within that time, and is no news."""
    creations = Creations()
    creations.note("a", 0.0)
    creations.note("b", 50.0)
    assert creations.includes("a", 60.0)
    assert not creations.includes("a", 61.0)
    assert not creations.includes("c", 0.0)
