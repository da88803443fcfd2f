"""The documents whose deletions an instance may carry out."""

from peruserd.core.common.names import user_document_id
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import ShardMap, split_evenly
from peruserd.listener.deletion_setup import Owned

LOW, HIGH = split_evenly(2)
MAP = ShardMap("_users", ".1", {LOW: ("n1", "n2"), HIGH: ("n1", "n2")})
ALONE, BOTH = (Ownership.of(MAP, LOW, names) for names in (("n1",), ("n1", "n2")))
USERS = [user_document_id(f"u{number}") for number in range(100)]


def test_only_what_it_owns_and_goes_on_owning_is_its_own() -> None:
    """A document is already left alone if another instance will own it after the quiet period."""
    for ownership, upcoming in ((ALONE, None), (BOTH, None), (ALONE, BOTH), (BOTH, ALONE)):
        owned = Owned("n1", ownership, upcoming)
        ownerships = [each for each in (ownership, upcoming) if each is not None]
        expected = [
            user for user in USERS if all(each.owner(user) == "n1" and each.is_inside(user) for each in ownerships)
        ]
        assert [user for user in USERS if owned(user)] == expected


def test_what_hashes_into_another_range_is_not_its_own() -> None:
    """Only the listener of a document's own range acts on it."""
    halves = [Owned("n1", Ownership.of(MAP, covered, ("n1",)), None) for covered in (LOW, HIGH)]
    assert all(sum(half(user) for half in halves) == 1 for user in USERS)


def test_a_change_is_told_from_none() -> None:
    """Being informed of the same ownership again changes nothing."""
    owned = Owned("n1", ALONE, None)
    assert not owned.change(ALONE, None)
    assert owned.change(ALONE, BOTH)
    assert owned.change(BOTH, None)
    assert not all(owned(user) for user in USERS if ALONE.is_inside(user))
