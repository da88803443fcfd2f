import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.feed.progress import (
    START,
    Identity,
    SavedProgress,
    Scan,
    Sweep,
    change_owner,
    is_behind,
    is_where_it_was,
    resume,
    sweep_finished,
    wanted_by_scan,
)
from peruserd.core.feed.rows import Leaf, Row, reached
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap

ME = "n1"
HOSTS = ("n1", "n2", "n3")
SHARD_MAP = ShardMap("_users", ".1", {WHOLE_SPACE: HOSTS})
ALIVE = st.sets(st.sampled_from(HOSTS), min_size=1)
COPY = Identity("copy", 100)


def _ownership(*alive: str) -> Ownership:
    return Ownership.of(SHARD_MAP, WHOLE_SPACE, alive)


ALL = _ownership(*HOSTS)
ALONE = _ownership("n1")
WITH_N2 = _ownership("n1", "n2")
WITHOUT_ME = _ownership("n2", "n3")
OWNERSHIPS = ALIVE.map(lambda alive: _ownership(*alive))


def _scanned(saved: SavedProgress) -> SavedProgress:
    """The progress once all sweeps of the scan under way are done."""
    while saved.scan is not None:
        saved = sweep_finished(saved)
    return saved


def _saved(current: Ownership = ALL, *, checkpoint: int = 50) -> SavedProgress:
    return SavedProgress("copy", checkpoint, current, covered=(current,))


def test_an_unknown_copy_is_scanned_to_its_end_and_followed_from_there() -> None:
    """Without a file on disk a scan reads the range, and live reading begins at the end of the copy."""
    begun, why = resume(None, COPY, ALL, ME)
    assert begun == SavedProgress(
        "copy", 100, ALL, covered=(), scan=Scan(until=100, position=START, sweep=Sweep.DATABASES)
    )
    assert "nothing is known" in why


def test_a_part_of_a_split_copy_is_followed_from_where_the_whole_was_read_to() -> None:
    """Halves keep their numbers: who signed up during the split is met live, and all others by a scan to the end."""
    begun, why = resume(None, COPY, ALL, ME, near=70)
    assert begun == SavedProgress("copy", 70, ALL, covered=(), scan=Scan(until=100, position=START))
    assert "split" in why


@pytest.mark.parametrize("near", [101, "70-x", None], ids=["beyond-its-end", "opaque", "nothing"])
def test_a_place_that_cannot_be_in_the_copy_is_no_hint(near: int | str | None) -> None:
    """A copy with fewer changes is another one, and opaque sequences say nothing about another feed."""
    assert resume(None, COPY, ALL, ME, near=near) == resume(None, COPY, ALL, ME)


@pytest.mark.parametrize("end", [100, 49], ids=["its-own-checkpoint-holds", "its-own-copy-is-behind"])
def test_a_hint_is_nothing_against_what_is_known_of_the_copy(end: int) -> None:
    """The progress on disk of the very copy, even a worthless one, goes before that of another copy."""
    identity = Identity("copy", end)
    assert resume(_saved(), identity, ALL, ME, near=40) == resume(_saved(), identity, ALL, ME)


@pytest.mark.parametrize(
    ("identity", "word"),
    [(Identity("other", 100), "another copy"), (Identity("copy", 49), "behind")],
    ids=["another-copy", "behind"],
)
def test_a_checkpoint_of_what_is_no_longer_there_is_worth_nothing(identity: Identity, word: str) -> None:
    """A copy made again answers a sequence beyond its end with silence, so uuid and end are compared first."""
    begun, why = resume(_saved(), identity, ALL, ME)
    assert begun == resume(None, identity, ALL, ME)[0]
    assert word in why


def test_a_checkpoint_whose_row_the_copy_does_not_have_is_worth_nothing() -> None:
    """The files were put back, and more has come since than was lost: neither uuid nor end tell."""
    newest = Row(100, "x", changes=(Leaf("1-a"),))
    begun, why = resume(_saved(), Identity("copy", 100, (newest,), has_last_row=False), ALL, ME)
    assert begun == SavedProgress("copy", 100, ALL, scan=Scan(until=100), last_row=newest)
    assert "another history" in why


def test_a_checkpoint_before_every_change_needs_no_proof() -> None:
    """Everything is read after it, whatever the history is."""
    saved = _saved(checkpoint=0)
    assert resume(saved, Identity("copy", 100, has_last_row=False), ALL, ME)[0] == saved


def test_a_checkpoint_of_other_databases_is_worth_nothing() -> None:
    """With another prefix nobody has a database yet."""
    begun, why = resume(_saved(), COPY, ALL, ME, digest="another")
    assert begun == SavedProgress("copy", 100, ALL, scan=Scan(until=100), digest="another")
    assert "configuration" in why
    assert resume(begun, COPY, ALL, ME, digest="another")[0] == begun


ROW = Row(50, "x", changes=(Leaf("2-a"),))


@pytest.mark.parametrize(
    ("found", "is_there"),
    [
        (ROW, True),
        (Row(70, "x", changes=(Leaf("3-b"),)), None),
        (Row(70, "x", deleted=True, changes=(Leaf("3-b"),)), None),
        (Row(70, "x", changes=(Leaf("2-a"), Leaf("1-b"))), None),
        (None, False),
        (Row(40, "x", changes=(Leaf("1-a"),)), False),
        (Row(40, "x", changes=(Leaf("2-a"),)), False),
        (Row(70, "x", changes=(Leaf("2-a"),)), False),
    ],
    ids=[
        "as it was",
        "changed",
        "deleted",
        "with a conflict",
        "gone",
        "older",
        "replicated again earlier",
        "replicated again later",
    ],
)
def test_a_row_is_where_it_was(found: Row | None, is_there: bool | None) -> None:  # noqa: FBT001 - a parameter
    """None where the copy has to be asked for the revision."""
    assert is_where_it_was(ROW, found) is is_there


def test_opaque_sequences_are_not_compared() -> None:
    """Opaque sequences differ from one answer to the next, so the revision alone decides."""
    row = Row("5-abc", "x", changes=(Leaf("2-a"),))
    assert is_where_it_was(row, Row("9-def", "x", changes=(Leaf("2-a"),))) is True
    assert is_where_it_was(row, Row("9-def", "x", changes=(Leaf("3-b"),))) is None


@pytest.mark.parametrize("end", [50, 51, 1_000])
def test_a_checkpoint_of_the_same_copy_holds(end: int) -> None:
    """The same copy, not behind, and the same owners: on from the checkpoint, nothing to scan."""
    assert resume(_saved(), Identity("copy", end), ALL, ME)[0] == _saved()


def test_a_scan_goes_on_after_a_restart() -> None:
    """A scan that was under way goes on where it had finished."""
    saved = msgspec.structs.replace(_saved(), covered=(WITH_N2,), scan=Scan(until=40, position=20))
    assert resume(saved, COPY, ALL, ME)[0] == saved


def test_owners_that_changed_meanwhile_are_caught_up_with() -> None:
    """Documents a restarted listener gained are scanned up to its checkpoint; the new owners judge what follows."""
    begun, _ = resume(_saved(), COPY, ALONE, ME)
    assert begun == SavedProgress("copy", 50, ALONE, covered=(ALL,), scan=Scan(until=50))


def test_losing_documents_needs_no_scan() -> None:
    """Where nothing is gained, the checkpoint speaks of all that is left."""
    changed = change_owner(_saved(ALONE), ALL, ME, read=60)
    assert changed == SavedProgress("copy", 50, ALL, covered=(ALL,))


def test_what_was_lost_and_comes_back_is_scanned() -> None:
    """Documents that belonged to somebody else for a while are looked at again."""
    lost = change_owner(_saved(ALL), WITHOUT_ME, ME, read=60)
    back = change_owner(lost, ALL, ME, read=70)
    assert back.scan == Scan(until=70)
    wanted = wanted_by_scan(back, ME)
    mine = ALL.belongs_to(ME)
    documents = [f"org.couchdb.user:{number}" for number in range(200)]
    assert [wanted(each) for each in documents] == [mine(each) for each in documents]


def test_a_scan_begins_again_when_the_owners_change() -> None:
    """A scan under way looked for other documents, so it begins again."""
    scanning = msgspec.structs.replace(change_owner(_saved(), WITH_N2, ME, read=60), scan=Scan(60, position=30))
    assert change_owner(scanning, ALONE, ME, read=65).scan == Scan(until=65, position=START)


def test_a_scan_makes_databases_first_and_looks_at_security_objects_then() -> None:
    """The second sweep reads the same part from the start again; until it is done the checkpoint speaks of nothing."""
    begun = change_owner(_saved(), ALONE, ME, read=60)
    assert begun.scan == Scan(until=60, position=START, sweep=Sweep.DATABASES)
    half = sweep_finished(msgspec.structs.replace(begun, scan=Scan(60, position=60)))
    assert half == msgspec.structs.replace(begun, scan=Scan(until=60, position=START, sweep=Sweep.SECURITY))
    assert half.covered == (ALL,)


def test_a_scan_compares_copies_last() -> None:
    """The third sweep begins where the second is done; until it is done the checkpoint speaks of nothing new."""
    half = msgspec.structs.replace(_saved(), covered=(WITH_N2,), scan=Scan(40, position=40, sweep=Sweep.SECURITY))
    last = sweep_finished(half)
    assert last == msgspec.structs.replace(half, scan=Scan(until=40, position=START, sweep=Sweep.COPIES))
    assert sweep_finished(last) == msgspec.structs.replace(last, covered=(ALL,), scan=None)


def test_a_careful_scan_needs_no_sweep_over_copies() -> None:
    """It has compared the copies of everybody in its second sweep."""
    scan = Scan(40, position=40, sweep=Sweep.SECURITY, careful=True)
    assert sweep_finished(msgspec.structs.replace(_saved(), scan=scan)).scan is None


def test_a_scan_in_its_second_sweep_goes_on_there_after_a_restart() -> None:
    """Databases that were made need not be looked for again."""
    saved = msgspec.structs.replace(_saved(), covered=(WITH_N2,), scan=Scan(40, position=20, sweep=Sweep.SECURITY))
    assert resume(saved, COPY, ALL, ME)[0] == saved


def test_when_the_owners_change_a_scan_in_its_second_sweep_begins_with_databases_again() -> None:
    """Databases of documents that were just gained can be missing."""
    half = sweep_finished(change_owner(_saved(), WITH_N2, ME, read=60))
    assert change_owner(half, ALONE, ME, read=65).scan == Scan(until=65, position=START, sweep=Sweep.DATABASES)


def test_a_finished_scan_lets_the_checkpoint_speak_of_all() -> None:
    """After all sweeps, what is owned now is what the checkpoint is about."""
    changed = _scanned(change_owner(_saved(), ALONE, ME, read=60))
    assert (changed.covered, changed.scan) == ((ALONE,), None)
    assert not change_owner(changed, ALONE, ME, read=60).scan


def test_endless_changes_end_in_a_scan_of_everything() -> None:
    """While scans never end, the owners remembered do not grow without bound; then everything is scanned."""
    saved = _saved(ALL)
    longest = 0
    for number in range(50):
        other = ShardMap("_users", f".{number}", {WHOLE_SPACE: (*HOSTS, f"n{number + 4}")})
        saved = change_owner(saved, Ownership.of(other, WHOLE_SPACE, HOSTS), ME, read=60 + number)
        longest = max(longest, len(saved.covered))
        assert saved.scan is not None
    assert longest <= 9
    assert saved.covered == ()
    mine = saved.current.belongs_to(ME)
    wanted = wanted_by_scan(saved, ME)
    documents = [f"org.couchdb.user:{number}" for number in range(100)]
    assert [wanted(each) for each in documents] == [mine(each) for each in documents]


@given(history=st.lists(st.tuples(OWNERSHIPS, st.integers(0, 2)), max_size=12), first=OWNERSHIPS)
def test_every_document_is_spoken_of_or_wanted(history: list[tuple[Ownership, int]], first: Ownership) -> None:
    """Through any changes of owners and any ends of sweeps, a document owned now was owned all along or is scanned.

    `alone` is the plain bookkeeping: the documents that the instance has been responsible for since they were last
    certainly finished. `served` are those whose users it has served, which the first two sweeps do.
    """
    documents = [f"org.couchdb.user:{number}" for number in range(40)]
    saved = _saved(first)
    served = alone = {each for each in documents if first.belongs_to(ME)(each)}
    for read, (ownership, sweeps) in enumerate(history, start=60):
        saved = change_owner(saved, ownership, ME, read=read)
        mine = {each for each in documents if ownership.belongs_to(ME)(each)}
        alone, served = alone & mine, served & mine
        wanted = set(filter(wanted_by_scan(saved, ME), documents)) if saved.scan is not None else set()
        assert wanted <= mine
        assert mine - alone <= wanted, "a document gained is scanned for"
        if saved.scan is not None:
            assert saved.scan == Scan(until=read, position=START, known=saved.scan.known)
            assert not saved.scan.known or served == mine, "a user may wait for the scan"
        for _ in range(sweeps if saved.scan is not None else 0):
            saved = sweep_finished(saved)
        if saved.scan is None or saved.scan.sweep is Sweep.COPIES:
            served = mine
        if saved.scan is None:
            alone = mine
        else:
            assert set(filter(wanted_by_scan(saved, ME), documents)) == wanted, "both sweeps are for the same documents"
    assert saved.checkpoint == 50


@given(saved=st.builds(_saved, OWNERSHIPS), ownership=OWNERSHIPS, alive=ALIVE)
def test_what_is_saved_is_read_as_it_was(saved: SavedProgress, ownership: Ownership, alive: set[str]) -> None:
    """Progress survives the disk, with every owner it remembers."""
    changed = change_owner(change_owner(saved, ownership, ME, read=7), _ownership(*alive), ME, read=8)
    for each in (changed, sweep_finished(changed)):
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=SavedProgress) == each


def test_a_state_file_of_an_earlier_version_is_read() -> None:
    """The covered ownerships keep their first name on disk."""
    saved = _saved()
    on_disk = msgspec.msgpack.decode(msgspec.msgpack.encode(saved))
    assert msgspec.convert(on_disk["settled"], tuple[Ownership, ...]) == saved.covered
    assert "covered" not in on_disk


def test_only_numbers_can_be_behind_or_reached() -> None:
    """Opaque sequences of a clustered feed are not compared: they do not say which is later."""
    assert is_behind(Identity("copy", 4), 5)
    assert not is_behind(Identity("copy", 5), 5)
    assert not is_behind(Identity("copy", "4-x"), "5-x")
    assert not is_behind(Identity("copy", "4-x"), 5)
    assert reached(5, 5)
    assert reached(6, 5)
    assert not reached(4, 5)
    assert not reached("5-x", "5-x")
    assert not reached(START, "5-x")
