import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.deletions.journal import (
    PAUSE_ID,
    UNREADABLE,
    Ending,
    Entry,
    Kind,
    Pause,
    PauseReason,
    Saying,
    State,
    Word,
    as_document,
    drops_between,
    entry_id,
    heeded,
    ids_of,
    most_urgent,
    read_entry,
    read_pause,
    read_saying,
    renews,
    revision_key,
    same_database,
    word_id,
)

REVISION = "3-" + "ab" * 16
ENTRY = Entry(
    document="org.couchdb.user:ann",
    database="userdb-616e6e",
    suffix=".1700000000",
    revision=REVISION,
    noted_at=1_700_000_500.0,
    due_at=1_700_604_500.0,
    sequence=7,
    instance="node1@host",
)
ENDED = ENTRY.ended(Ending.DROPPED, 1_700_700_000.0)


def changed(**fields: object) -> Entry:
    """Return the entry with some fields changed."""
    return msgspec.structs.replace(ENTRY, **fields)


# Ids


def test_each_tombstone_has_an_entry_of_its_own() -> None:
    """Two deletions of one user document are two entries, and an entry lies between the ids of its database."""
    other = changed(revision="5-" + "cd" * 16)
    assert ENTRY.id != other.id
    first, last = ids_of(Kind.DELETION, ENTRY.database)
    assert first < ENTRY.id < last
    assert not first < changed(database="userdb-616e6e61").id < last


def test_a_return_is_known_by_the_database_it_is_to() -> None:
    """Two returns to one database share one entry. A return to another database of that name has its own entry."""
    back = changed(kind=Kind.RETURN)
    assert back.id == changed(kind=Kind.RETURN, revision="").id == entry_id(Kind.RETURN, ENTRY.database, ENTRY.suffix)
    assert back.id != changed(kind=Kind.RETURN, suffix=".1700000001").id


@given(st.text())
def test_any_revision_makes_a_short_plain_id(revision: str) -> None:
    """Anybody can write any text as a revision with `new_edits=false`; an id stays short and plain."""
    key = revision_key(revision)
    assert key.isascii()
    assert key.isprintable()
    assert "/" not in key
    assert len(key) <= 43


def test_a_revision_that_couchdb_makes_is_shown_as_it_is() -> None:
    """An operator who reads the journal finds the tombstone by its revision."""
    assert revision_key(REVISION) == REVISION
    assert revision_key("1-../../_design/x").startswith("x-")
    assert revision_key("٣-" + "ab" * 16).startswith("x-")


def test_no_kind_of_document_lies_among_another() -> None:
    """A page of one kind never holds documents of another: words, drops, the pause and both kinds of entries."""
    ids = [ENTRY.id, changed(kind=Kind.RETURN).id, word_id(ENTRY.id), PAUSE_ID, ENTRY.begun(1.0).reservation or ""]
    spans = [ids_of(Kind.DELETION), ids_of(Kind.RETURN), drops_between(0.0, 2_000_000_000.0)]
    assert [sum(first <= each <= last for first, last in spans) for each in ids] == [1, 1, 0, 0, 1]


def test_drops_are_counted_from_one_moment_to_another() -> None:
    """The ids of the documents that count drops sort by the time at which the drops were begun."""
    first, last = drops_between(1_700_000_000.0, 1_700_000_009.0)
    moments = (1_699_999_999.9, 1_700_000_000.0, 1_700_000_009.0, 1_700_000_009.1)
    counted = [first <= (ENTRY.begun(each).reservation or "") <= last for each in moments]
    assert counted == [False, True, True, False]


# All leaves together


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ([], Word.NOTHING),
        ([Word.DROP_NOW], Word.DROP_NOW),
        ([Word.DROP_NOW, Word.NOTHING], Word.NOTHING),
        ([Word.DROP_NOW, Word.HOLD], Word.HOLD),
        ([Word.HOLD, Word.CANCEL], Word.CANCEL),
        ([Word.DROP_NOW, Word.CANCEL, Word.NOTHING], Word.CANCEL),
        ([Word.RELEASE], Word.RELEASE),
        ([Word.RELEASE, Word.DROP_NOW], Word.NOTHING),
        ([Word.RELEASE, Word.DROP_NOW, Word.HOLD], Word.HOLD),
    ],
)
def test_of_several_words_the_more_careful_one_wins(said: list[Word], heard: Word) -> None:
    """Two operators who contradict each other in a cut cluster lose nothing, whichever copy is read first."""
    leaves = [as_document(Saying(word)) for word in said]
    assert read_saying(leaves).word is heard
    assert read_saying(leaves[::-1]).word is heard


def test_a_word_taken_back_by_hand_says_nothing() -> None:
    """A deleted leaf means no word, and is more careful than an order to drop."""
    assert read_saying([as_document(Saying(Word.DROP_NOW)), None]).word is Word.NOTHING
    assert read_saying([as_document(Saying(Word.HOLD)), None]).word is Word.HOLD


@pytest.mark.parametrize("leaf", [{"word": "explode"}, {"word": 1}, {"resumed": "yes"}, {"words": "hold"}, [], "x", 1])
def test_a_word_that_cannot_be_read_is_a_hold(leaf: object) -> None:
    """A word that a proxy, another version or a slip of the hand has spoilt drops nothing."""
    assert read_saying([leaf]).word is Word.HOLD
    assert not read_saying([leaf]).resumed


def test_a_leave_to_pass_the_pause_must_stand_on_every_leaf() -> None:
    """An entry passes a pause only where no leaf of its word says otherwise."""
    passing, plain = as_document(Saying(resumed=True)), as_document(Saying())
    assert read_saying([passing]).resumed
    assert not read_saying([passing, plain]).resumed


def test_one_leaf_that_pauses_is_a_pause() -> None:
    """If a pause and a resumption are in conflict, the pause wins."""
    paused, resumed = Pause(paused=True, at=5.0), Pause(resumed_at=9.0)
    for leaves in ([paused, resumed], [resumed, paused]):
        assert read_pause([as_document(each) for each in leaves]) == paused


@pytest.mark.parametrize("leaf", [{"paused": "no"}, {"why": "?"}, {"pause": True}, [], "x", 1, {"paused": None}])
def test_a_pause_that_cannot_be_read_is_a_pause(leaf: object) -> None:
    """Nothing is dropped where nobody knows whether it may be."""
    assert read_pause([leaf]) == UNREADABLE
    assert read_pause([as_document(Pause()), leaf]).paused


def test_no_pause_is_no_pause() -> None:
    """Where nobody ever paused, or somebody deleted the pause, nothing is paused."""
    assert not read_pause([]).paused
    assert not read_pause([None]).paused


def test_of_two_resumptions_the_earlier_counts() -> None:
    """The earlier one is more careful, because more drops count for the breaker."""
    leaves = [as_document(Pause(resumed_at=moment)) for moment in (9.0, 5.0)]
    assert read_pause(leaves).resumed_at == 5.0


@pytest.mark.parametrize(
    ("entries", "read"),
    [
        ([ENTRY, ENDED], ENDED),
        ([ENDED, ENTRY.begun(1.0)], ENDED),
        ([ENTRY, ENTRY.begun(1.0)], ENTRY.begun(1.0)),
        ([ENTRY.begun(1.0), ENTRY.ended(Ending.CANCELLED, 2.0)], ENTRY.ended(Ending.CANCELLED, 2.0)),
        ([ENTRY.ended(Ending.RETURNED, 2.0), ENTRY], ENTRY),
        ([ENTRY.ended(Ending.GONE, 2.0), ENDED], ENDED),
    ],
)
def test_two_owners_who_wrote_one_entry_are_read_as_one(entries: list[Entry], read: Entry) -> None:
    """A drop that was made and a cancellation are final; another end is looked at once more where it is contested."""
    leaves = [as_document(each) for each in entries]
    assert read_entry(leaves) == read
    assert read_entry(leaves[::-1]) == read


def test_what_is_no_entry_is_none() -> None:
    """A document by somebody else's hand, or a deleted one, is no entry."""
    assert read_entry([]) is None
    assert read_entry([None, {"document": 1}, "x"]) is None


def test_an_entry_survives_its_writing() -> None:
    """An entry that is written to the journal is read again as it was, in every state."""
    for entry in (ENTRY, ENTRY.begun(3.5), ENDED, changed(sequence="12-opaque"), changed(kind=Kind.RETURN)):
        assert read_entry([{**as_document(entry), "_id": entry.id, "_rev": "1-x"}]) == entry


# The life of an entry


def test_a_drop_that_is_begun_again_is_counted_once() -> None:
    """After a crash between the journal and the drop the same reservation is used again."""
    begun = ENTRY.begun(5.0)
    assert begun.state is State.DROPPING
    assert begun.begun(9.0) == begun
    assert begun.waiting() == ENTRY
    assert ENTRY.begun(9.0).reservation != begun.reservation


def test_an_entry_is_open_until_it_ends() -> None:
    """An entry that ended has a moment and a reason."""
    assert ENTRY.is_open
    assert ENTRY.begun(1.0).is_open
    assert not ENDED.is_open
    assert (ENDED.ending, ENDED.ended_at) == (Ending.DROPPED, 1_700_700_000.0)


@pytest.mark.parametrize(
    ("suffix", "same"),
    [
        pytest.param(".1700000000", True, id="the-one"),
        pytest.param(".1700000010", True, id="the-other-map-of-one-making"),
        pytest.param(".1699999990", True, id="the-earlier-map-of-one-making"),
        pytest.param(".1700000400", False, id="made-again-before-the-deletion"),
        pytest.param(".1700000600", False, id="made-again-after-the-deletion"),
        pytest.param("", False, id="none"),
        pytest.param(".x", False, id="no-time"),
        pytest.param(".٣٣٣", False, id="other-digits"),
    ],
)
def test_another_database_of_the_name_is_told_by_its_suffix(suffix: str, same: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Only two shard maps of one making, which two nodes wrote within seconds, are taken for one database."""
    assert same_database(ENTRY, suffix) is same


def test_a_database_made_again_at_once_after_the_deletion_is_another_one() -> None:
    """A user who is deleted just after signing up and comes back in seconds does not lose what is made then."""
    quick = changed(noted_at=1_700_000_003.0)
    assert not same_database(quick, ".1700000005")
    assert same_database(quick, ".1700000002")


@pytest.mark.parametrize(("noted_at", "same"), [(1_700_000_001.9, False), (1_700_000_002.0, True)])
def test_a_database_made_in_the_second_of_the_noting_is_another_one(noted_at: float, same: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A suffix tells the second alone, so one that was made after the noting cannot be told from one made before."""
    assert same_database(changed(noted_at=noted_at), ".1700000001") is same


def test_a_deletion_opens_again_only_what_was_not_decided() -> None:
    """The same tombstone opens an entry again if the user had returned, but not if an operator had ended it."""
    assert renews(ENTRY.ended(Ending.RETURNED, 1.0), ENTRY)
    assert renews(ENTRY.ended(Ending.SUPERSEDED, 1.0), ENTRY)
    assert renews(ENTRY.ended(Ending.GONE, 1.0), ENTRY)
    assert not renews(ENTRY.ended(Ending.GONE, 1.0), changed(suffix=".1700009999"))
    for ending in (Ending.CANCELLED, Ending.DROPPED, Ending.OTHER_DATABASE, Ending.RELEASED):
        assert not renews(ENTRY.ended(ending, 1.0), changed(suffix=".1700009999"))
    assert not renews(ENTRY, ENTRY)


@pytest.mark.parametrize(
    ("word", "ending", "suffix", "heard"),
    [
        (Word.HOLD, None, ENTRY.suffix, Word.HOLD),
        (Word.CANCEL, None, ENTRY.suffix, Word.CANCEL),
        (Word.NOTHING, Ending.CANCELLED, ENTRY.suffix, Word.CANCEL),
        (Word.HOLD, Ending.RETURNED, ENTRY.suffix, None),
        (Word.DROP_NOW, None, ENTRY.suffix, None),
        (Word.NOTHING, None, ENTRY.suffix, None),
        (Word.CANCEL, None, ".1800000000", None),
        (Word.NOTHING, Ending.CANCELLED, ".1800000000", None),
    ],
)
def test_a_word_that_keeps_a_database_holds_for_its_later_deletions(
    word: Word, ending: Ending | None, suffix: str, heard: Word | None
) -> None:
    """A word that keeps a database is about the database. A word to hasten a deletion is about that deletion."""
    noted = msgspec.structs.replace(ENTRY, suffix=suffix, revision="5-" + "ef" * 16)
    earlier = ENTRY if ending is None else ENTRY.ended(ending, ENTRY.due_at)
    said = heeded(noted, [(earlier, Saying(word, resumed=True, by=7))])
    assert said == (None if heard is None else Saying(heard, by=7))


def test_of_all_words_that_keep_a_database_the_most_careful_holds() -> None:
    """A database that was cancelled once stays for good, whatever else was said of its deletions."""
    cancelled = ENTRY.ended(Ending.CANCELLED, ENTRY.due_at)
    others = [(ENTRY, Saying(Word.HOLD)), (cancelled, Saying()), (ENTRY, Saying())]
    assert heeded(msgspec.structs.replace(ENTRY, revision="5-" + "ef" * 16), others) == Saying(Word.CANCEL)


def test_what_is_due_first_comes_first() -> None:
    """Entries are looked at in the order in which they fall due."""
    late, soon = changed(due_at=9.0), changed(due_at=5.0, database="userdb-62")
    assert most_urgent([late, soon]) == [soon, late]


def test_why_all_is_paused_is_kept() -> None:
    """A pause by the breaker is read as one."""
    pause = Pause(paused=True, why=PauseReason.BREAKER, at=3.0, instance="node1@host")
    assert read_pause([as_document(pause)]) == pause
