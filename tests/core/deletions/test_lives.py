"""The lives of a database's name, and which of their ends are expected."""

from typing import Any

import pytest

from peruserd.core.deletions.journal import Ending, Entry, State
from peruserd.core.deletions.lives import UNKNOWN_LIFE, is_expected_end, is_newer, newest, read_end


def entry(suffix: str, ending: Ending | None = None, state: State = State.ENDED) -> Entry:
    """Return an entry of the journal, noted a minute after the database was made."""
    return Entry("org.couchdb.user:ann", "userdb-616e6e", suffix, "2-a", 1_060.0, 1_060.0, state=state, ending=ending)


@pytest.mark.parametrize(
    ("end", "entries", "known"),
    [
        (None, [], False),
        (".1000", [], True),
        (".999", [], False),
        (None, [entry(".1000", Ending.DROPPED)], True),
        (None, [entry(".1000", Ending.GONE)], True),
        (None, [entry(".1000", state=State.DROPPING)], True),
        (None, [entry(".1000", state=State.WAITING)], False),
        (None, [entry(".1000", Ending.CANCELLED)], False),
        (None, [entry(".1000", Ending.RETURNED)], False),
        (None, [entry(".500", Ending.DROPPED)], False),
        # Two nodes that made the database in different seconds.
        (None, [entry(".1003", Ending.DROPPED)], True),
    ],
)
def test_the_end_of_a_life_is_no_loss_where_the_journal_tells_of_that_life(
    end: str | None, entries: list[Entry], *, known: bool
) -> None:
    """An entry or a note of another life says nothing."""
    assert is_expected_end(".1000", end, entries) is known


@pytest.mark.parametrize(
    ("end", "entries", "known"),
    [(None, [], False), (".7", [], True), (None, [entry(".7", Ending.DROPPED)], True), (None, [entry(".7")], False)],
)
def test_a_life_that_the_server_does_not_tell_from_others_may_be_any(
    end: str | None, entries: list[Entry], *, known: bool
) -> None:
    """A server whose tombstones have no suffix: what is known of one life counts for all."""
    assert is_expected_end(UNKNOWN_LIFE, end, entries) is known


def test_the_newest_life_is_the_one_that_was_made_last() -> None:
    """Suffixes are compared as numbers of seconds. A suffix that is no number is the oldest."""
    assert newest([".9", ".10", ".2"]) == ".10"
    assert newest(["", ".1"]) == ".1"
    assert newest([]) is None
    assert [is_newer(".10", each) for each in (None, ".9", ".10", ".11")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("leaves", "found"),
    [
        ([], None),
        ([None], None),
        ([{"suffix": ".3"}], ".3"),
        ([{"suffix": ".3"}, {"suffix": ".20"}, None], ".20"),
        ([{"suffix": 3}, {"other": ".3"}, "text"], None),
    ],
)
def test_all_leaves_of_a_note_are_read(leaves: list[Any], found: str | None) -> None:
    """Two instances can have written it at once; what cannot be read says nothing."""
    assert read_end(leaves) == found
