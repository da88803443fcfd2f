"""The ledger while documents change hands: what is held back, what is looked at again, what is left to others."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from peruserd.core import intake
from peruserd.core.changes import Change
from peruserd.core.lanes import Lane
from peruserd.core.names import user_document_id
from peruserd.core.ownership import Ownership
from peruserd.core.progress import Identity, Sweep
from peruserd.core.quarantine import UNCONFIRMED, Advice, Failure
from peruserd.core.ranges import WHOLE_SPACE
from peruserd.core.rows import Page, Row
from peruserd.listener import ledger as ledger_module
from peruserd.listener.ledger import Ledger
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.books import RECALL_SECONDS, make_ledger
from tests.listener.clocks import Clock

HOSTS = ((WHOLE_SPACE, ("me", "other")),)
MINE = Ownership("_users", WHOLE_SPACE, HOSTS, ("me",))
SHARED = Ownership("_users", WHOLE_SPACE, HOSTS, ("me", "other"))
THEIRS = Ownership("_users", WHOLE_SPACE, HOSTS, ("other",))
DONE = Outcome(acted_on=False, provisioned=True, created=True, security_written=True, whole=True)
REVOKED = Outcome(acted_on=True, revoked=True, security_written=True, whole=True)
FAILED = Outcome(failure=Failure("conflict", "409", Advice.RETRY))

# When nobody has signed up for long, so that a scan is given out as fast as anything else.
LATER = 1e9

IDS = [user_document_id(f"user-{number}") for number in range(20)]
STAYS, MOVES = (next(each for each in IDS if SHARED.belongs_to("me")(each) is mine) for mine in (True, False))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The ledger's clock."""
    made = Clock()
    monkeypatch.setattr(ledger_module, "time", made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new state file."""
    opened = Store.open(tmp_path / "copy.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    """A ledger that owns everything of an empty copy, its scan done."""
    del clock
    made = make_ledger(ownership=MINE, share=8, store=store)
    made.open(Identity("copy", 0))
    for _ in Sweep:
        sweep(made)
    return made


def sweep(ledger: Ledger, *rows: Row, missing: Collection[str] = ()) -> None:
    """Enter the last page of a sweep."""
    task = ledger.wait_for_scan()
    assert task is not None
    ledger.enter_scan(task, Page(list(rows), rows[-1].seq if rows else task.since), missing)


def live(ledger: Ledger, *rows: Row) -> None:
    """Enter a page of the live feed."""
    ledger.enter_live(Page(list(rows), rows[-1].seq))


def waiting(ledger: Ledger) -> list[Change]:
    """Take all that is given out now, without waiting for more."""
    taken = []
    while change := ledger._state.dispatch.next(LATER):
        taken.append(change)
    return taken


def serve(ledger: Ledger, outcome: Outcome = DONE) -> list[Change]:
    """Take all that is given out now and give it back."""
    taken = waiting(ledger)
    for change in taken:
        ledger.give_back(change, outcome)
    return taken


def documents(changes: list[Change], lane: Lane | None = None) -> set[str]:
    """Return the documents of the changes, of one lane or of all."""
    return {change.document_id for change in changes if lane in (None, change.lane)}


# Held back


def test_what_another_will_own_is_left_alone_and_the_rest_is_served(ledger: Ledger) -> None:
    """While another ownership is coming, only documents that stay this instance's are given out."""
    ledger.inform(MINE, SHARED, 8)
    live(ledger, Row(1, MOVES), Row(2, STAYS))
    assert documents(serve(ledger)) == {STAYS}
    assert ledger.report().checkpoint == 0


def test_what_was_held_back_is_served_when_the_change_does_not_come(ledger: Ledger) -> None:
    """A node that flaps costs its documents a pause and nothing else: no scan, no change passed over."""
    ledger.inform(MINE, SHARED, 8)
    live(ledger, Row(1, MOVES), Row(2, STAYS))
    serve(ledger)
    ledger.inform(MINE, None, 8)
    assert documents(serve(ledger)) == {MOVES}
    report = ledger.report()
    assert (report.checkpoint, report.counters.scans) == (2, 1)


def test_what_was_held_back_is_left_to_its_next_owner(ledger: Ledger) -> None:
    """Once the change comes, what waited is finished without being acted on: the next owner's scan finds it."""
    ledger.inform(MINE, SHARED, 8)
    live(ledger, Row(1, MOVES), Row(2, STAYS))
    serve(ledger)
    ledger.inform(SHARED, None, 8)
    assert serve(ledger) == []
    assert ledger.report().checkpoint == 2


def test_a_newer_change_of_a_held_document_takes_the_older_ones_place(ledger: Ledger) -> None:
    """Of a document held back only the newest change is acted on in the end."""
    ledger.inform(MINE, SHARED, 8)
    live(ledger, Row(1, MOVES))
    assert waiting(ledger) == []
    live(ledger, Row(2, MOVES, deleted=True))
    assert waiting(ledger) == []
    ledger.inform(MINE, None, 8)
    assert [(each.document_id, each.deleted) for each in serve(ledger)] == [(MOVES, True)]
    assert ledger.report().checkpoint == 2


def test_held_documents_do_not_stop_the_feed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many documents are held back, reading goes on for those that keep their owner."""
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 2)
    ledger.inform(MINE, SHARED, 8)
    moving = [each for each in IDS if not SHARED.belongs_to("me")(each)]
    live(ledger, *[Row(number, each) for number, each in enumerate(moving, start=1)])
    assert serve(ledger) == []
    assert ledger._state.live_has_room
    monkeypatch.setattr(intake, "_HELD_WINDOW", len(moving))
    assert not ledger._state.live_has_room


def test_a_change_that_arrives_while_its_document_is_worked_on_is_held_too(ledger: Ledger) -> None:
    """Work begun before the change was seen ends; what follows for the same document waits."""
    live(ledger, Row(1, MOVES))
    (begun,) = waiting(ledger)
    ledger.inform(MINE, SHARED, 8)
    live(ledger, Row(2, MOVES, deleted=True))
    ledger.give_back(begun, DONE)
    assert waiting(ledger) == []
    assert ledger.report().checkpoint == 1


# Reviews


def test_what_was_done_last_for_a_lost_document_is_reviewed(ledger: Ledger) -> None:
    """The next owner may have acted on something newer before; only documents that are lost are looked at."""
    live(ledger, Row(1, MOVES), Row(2, STAYS, deleted=True), Row(3, MOVES))
    serve(ledger)
    ledger.inform(SHARED, None, 8)
    (review,) = serve(ledger)
    assert (review.document_id, review.lane, review.deleted) == (MOVES, Lane.REVIEW, False)
    assert ledger.report().counters.reviews == 1


@pytest.mark.parametrize("lost", ["before-the-end", "after-it"])
def test_a_review_is_of_what_was_acted_on_and_not_of_what_the_row_said(ledger: Ledger, lost: str) -> None:
    """A tombstone whose document was found to be live and served is looked at as a live one."""
    live(ledger, Row(1, MOVES, deleted=True))
    (change,) = waiting(ledger)
    if lost == "before-the-end":
        ledger.inform(SHARED, None, 8)
    ledger.give_back(change, DONE)
    ledger.inform(SHARED, None, 8)
    (review,) = serve(ledger)
    assert (review.lane, review.deleted) == (Lane.REVIEW, False)


@pytest.mark.parametrize("lost", ["before-the-end", "after-it"])
def test_what_did_nothing_is_not_reviewed(ledger: Ledger, lost: str) -> None:
    """Where nothing was acted on, nothing can have undone what the next owner did."""
    live(ledger, Row(1, MOVES, deleted=True))
    (change,) = waiting(ledger)
    if lost == "before-the-end":
        ledger.inform(SHARED, None, 8)
    ledger.give_back(change, Outcome())
    ledger.inform(SHARED, None, 8)
    assert serve(ledger) == []


def test_what_was_done_long_ago_is_not_reviewed(ledger: Ledger, clock: Clock) -> None:
    """Past the time in which two instances can both take a document for theirs there is nothing to put right."""
    live(ledger, Row(1, MOVES))
    serve(ledger)
    clock.now += RECALL_SECONDS + 1
    ledger.inform(SHARED, None, 8)
    assert serve(ledger) == []


def test_work_that_ends_after_its_document_was_lost_is_reviewed(ledger: Ledger) -> None:
    """Work that was under way when the owner changed may be done after the next owner's work."""
    live(ledger, Row(1, MOVES, deleted=True))
    (begun,) = waiting(ledger)
    ledger.inform(SHARED, None, 8)
    ledger.give_back(begun, REVOKED)
    (review,) = serve(ledger)
    assert (review.lane, review.deleted) == (Lane.REVIEW, True)


def test_what_is_in_doubt_is_reviewed_once_it_is_lost(ledger: Ledger, store: Store) -> None:
    """The listener that began to write a security object writes on until it is whole, whoever is the owner then."""
    live(ledger, Row(1, MOVES))
    (begun,) = waiting(ledger)
    ledger.before_write(MOVES)
    ledger.give_back(begun, FAILED)
    ledger.inform(SHARED, None, 8)
    (review,) = serve(ledger, FAILED)
    assert review.lane is Lane.REVIEW
    assert ledger.report().quarantined == 0
    assert ledger.in_doubt(MOVES)
    assert ledger.retry_due() is not None
    assert store.load()[2] == {MOVES}


def test_a_review_that_failed_is_made_again_and_settles_the_doubt(ledger: Ledger, store: Store, clock: Clock) -> None:
    """It is tried until it succeeds; then nothing is left on disk."""
    ledger.before_write(MOVES)
    ledger.inform(SHARED, None, 8)
    serve(ledger, FAILED)
    clock.now += 1000.0
    ledger.retry_due()
    (again,) = serve(ledger, DONE)
    assert again.lane is Lane.REVIEW
    ledger.save()
    assert store.load()[2] == set()
    assert ledger.retry_due() is None


def test_a_process_that_starts_reviews_what_it_left_in_doubt_and_lost(store: Store, clock: Clock) -> None:
    """Doubts on disk outlive the process; those of documents that are others' by now are seen to at once."""
    del clock
    store.doubt(MOVES)
    ledger = make_ledger(ownership=SHARED, share=8, store=store)
    ledger.open(Identity("copy", 0))
    assert documents(serve(ledger), Lane.REVIEW) == {MOVES}


def test_a_review_waits_beside_a_change_of_the_same_document(ledger: Ledger) -> None:
    """A document that is regained before it was reviewed is reviewed all the same, never by two at once."""
    live(ledger, Row(1, MOVES))
    serve(ledger)
    ledger.inform(SHARED, None, 8)
    ledger.inform(MINE, None, 8)
    live(ledger, Row(2, MOVES, deleted=True))
    (first,) = waiting(ledger)
    ledger.give_back(first, DONE)
    (second,) = waiting(ledger)
    assert {first.lane, second.lane} == {Lane.LIVE, Lane.REVIEW}


def test_a_review_that_did_nothing_leaves_a_user_in_quarantine(ledger: Ledger, store: Store, clock: Clock) -> None:
    """A user who was lost, gained again and not served since is not taken for one who was."""
    live(ledger, Row(1, MOVES))
    serve(ledger)
    ledger.inform(SHARED, None, 8)
    (review,) = waiting(ledger)
    ledger.inform(MINE, None, 8)
    live(ledger, Row(2, MOVES))
    ledger.give_back(review, FAILED)
    assert documents(serve(ledger, FAILED)) == {MOVES}
    clock.now += 1000.0
    ledger.retry_due()
    changes = {each.lane: each for each in waiting(ledger)}
    assert set(changes) == {Lane.RETRY}
    ledger.give_back(changes[Lane.RETRY], FAILED)
    (review,) = waiting(ledger)
    assert review.lane is Lane.REVIEW
    ledger.give_back(review, Outcome())
    ledger.save()
    assert ledger.report().quarantined == 1
    assert [entry.document_id for entry in store.load()[1]] == [MOVES]


# Leaving and inheriting


def test_a_listener_that_leaves_gives_out_reviews_only(ledger: Ledger) -> None:
    """Its range is others' now: what waits is theirs, and what it did in the last moments is looked at again."""
    live(ledger, Row(1, MOVES), Row(2, STAYS))
    serve(ledger)
    live(ledger, Row(3, IDS[0]), Row(4, IDS[1]))
    ledger.leave()
    taken = waiting(ledger)
    assert {each.lane for each in taken} == {Lane.REVIEW}
    assert documents(taken) == {MOVES, STAYS}
    assert not ledger.wait_until_left(0.0)
    for change in taken:
        ledger.give_back(change, DONE)
    assert ledger.wait_until_left(0.0)
    assert ledger.report().checkpoint == 2


def test_work_under_way_when_a_listener_leaves_is_reviewed(ledger: Ledger) -> None:
    """It ends after the range was given up, so it is looked at like everything else."""
    live(ledger, Row(1, STAYS))
    (begun,) = waiting(ledger)
    ledger.leave()
    ledger.give_back(begun, DONE)
    assert documents(serve(ledger), Lane.REVIEW) == {STAYS}
    assert ledger.wait_until_left(0.0)


def test_inherited_doubts_are_on_disk_and_reviewed(ledger: Ledger, store: Store) -> None:
    """A doubt that another copy's listener has left is this one's to end, its own document or not."""
    ledger.inherit({MOVES, STAYS})
    assert store.load()[2] == {MOVES, STAYS}
    assert documents(serve(ledger), Lane.REVIEW) == {MOVES, STAYS}
    ledger.save()
    assert store.load()[2] == set()


# Scans in two sweeps


def test_a_scan_makes_missing_databases_before_it_looks_at_security_objects(ledger: Ledger) -> None:
    """The first sweep acts on users without a database alone, the second on the others.

    The third compares the copies of live users who were there before, and then the scan is done.
    """
    ledger.inform(THEIRS, None, 8)
    ledger.inform(MINE, None, 8)
    rows = (Row(1, IDS[0]), Row(2, IDS[1]), Row(3, IDS[2], deleted=True))
    live(ledger, Row(3, "another document"))
    ledger.inform(THEIRS, None, 8)
    ledger.inform(MINE, None, 8)
    sweep(ledger, *rows, missing={IDS[1]})
    (first,) = serve(ledger)
    assert (first.document_id, first.in_place) == (IDS[1], False)
    assert ledger.report().counters.scans == 1
    sweep(ledger, *rows)
    assert {(each.document_id, each.in_place) for each in serve(ledger)} == {(IDS[0], True), (IDS[2], True)}
    assert ledger.report().counters.scans == 1
    sweep(ledger, *rows)
    assert [(each.document_id, each.each_copy) for each in serve(ledger)] == [(IDS[0], True)]
    assert ledger.report().counters.scans == 2


def begin_a_scan(ledger: Ledger) -> None:
    """Let the ledger gain what it had lost."""
    live(ledger, Row(1, "another document"))
    ledger.inform(THEIRS, None, 8)
    ledger.inform(MINE, None, 8)


def test_a_tombstone_without_a_database_is_passed_over_by_a_scan(ledger: Ledger) -> None:
    """Nothing is left to do for it, and the scan ends without it; one whose database is there is acted on."""
    begin_a_scan(ledger)
    sweep(ledger)
    rows = (Row(1, IDS[0], deleted=True), Row(2, IDS[1], deleted=True))
    task = ledger.wait_for_scan()
    assert task is not None
    assert task.candidates(Page([*rows, Row(3, IDS[2]), Row(4, "_design/_auth", deleted=True)], 4)) == [IDS[0], IDS[1]]
    ledger.enter_scan(task, Page(list(rows), 2), {IDS[0]})
    assert [(each.document_id, each.deleted) for each in serve(ledger)] == [(IDS[1], True)]
    # The sweep over copies has nobody to look at.
    sweep(ledger, *rows)
    assert ledger.report().counters.scans == 2


def test_only_live_rows_are_looked_for_in_the_sweep_for_databases(ledger: Ledger) -> None:
    """A tombstone has no database to miss."""
    begin_a_scan(ledger)
    task = ledger.wait_for_scan()
    assert task is not None
    page = Page([Row(1, IDS[0]), Row(2, IDS[1], deleted=True), Row(3, "_design/_auth")], 3)
    assert task.candidates(page) == [IDS[0]]


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_a_tombstone_does_not_hide_a_live_row_from_the_sweep_for_databases(ledger: Ledger, first: str) -> None:
    """Of two rows with one id, in whichever order, the live one gets its database, and is known to be contested."""
    begin_a_scan(ledger)
    rows = [Row(1, IDS[0]), Row(2, IDS[0], deleted=True)]
    sweep(ledger, *(rows if first == "live" else reversed(rows)), missing={IDS[0]})
    assert [(each.deleted, each.contested) for each in serve(ledger)] == [(False, True)]


def test_a_tombstone_is_looked_at_although_a_live_row_of_its_id_was_served(ledger: Ledger) -> None:
    """The second sweep does not pass over it for what the first one did, and says that the two contradict."""
    begin_a_scan(ledger)
    sweep(ledger, Row(1, IDS[0]), missing={IDS[0]})
    serve(ledger)
    sweep(ledger, Row(1, IDS[0]), Row(2, IDS[0], deleted=True))
    assert [(each.deleted, each.contested) for each in serve(ledger)] == [(True, True)]


@pytest.mark.parametrize("first", ["live", "tombstone"])
def test_rows_of_both_kinds_are_acted_on_as_contested_in_the_sweep_for_security(ledger: Ledger, first: str) -> None:
    """Neither hides the other, whichever comes last."""
    begin_a_scan(ledger)
    sweep(ledger)
    rows = [Row(1, IDS[0]), Row(2, IDS[0], deleted=True)]
    sweep(ledger, *(rows if first == "live" else reversed(rows)))
    assert [each.contested for each in serve(ledger)] == [True]


def test_a_user_whose_first_sweep_failed_is_looked_at_by_the_second(ledger: Ledger) -> None:
    """Only who was served is passed over."""
    live(ledger, Row(1, "another document"))
    ledger.inform(THEIRS, None, 8)
    ledger.inform(MINE, None, 8)
    sweep(ledger, Row(1, IDS[0]), missing={IDS[0]})
    serve(ledger, FAILED)
    sweep(ledger, Row(1, IDS[0]))
    assert documents(serve(ledger), Lane.SCAN) == {IDS[0]}


def test_a_sweep_that_was_cut_off_goes_on_where_it_was(ledger: Ledger, store: Store) -> None:
    """The sweep is saved with the position: a process that dies in the second does not begin with the first."""
    live(ledger, Row(5, "another document"))
    ledger.inform(THEIRS, None, 8)
    ledger.inform(MINE, None, 8)
    sweep(ledger, Row(5, "another document"))
    ledger.save()
    successor = make_ledger(ownership=MINE, share=8, store=store)
    successor.open(Identity("copy", 5))
    task = successor.wait_for_scan()
    assert task is not None
    assert task.sweep is Sweep.SECURITY


# Halves


def test_a_half_goes_on_near_where_the_whole_was_read_to(store: Store, clock: Clock) -> None:
    """Users who signed up while a range was split are served by the live feed; the scan goes over the rest."""
    del clock
    ledger = make_ledger(ownership=MINE, share=8, store=store, begin_near=40)
    ledger.open(Identity("half", 45))
    assert ledger.wait_for_room() == 40
    task = ledger.wait_for_scan()
    assert task is not None
    assert (task.since, task.sweep) == (0, Sweep.DATABASES)


@pytest.mark.parametrize("near", [46, "46-opaque", None])
def test_a_hint_that_cannot_be_is_not_believed(store: Store, clock: Clock, near: int | str | None) -> None:
    """A hint beyond the copy's end, or of another kind of feed, is dropped: live begins at the end."""
    del clock
    ledger = make_ledger(ownership=MINE, share=8, store=store, begin_near=near)
    ledger.open(Identity("half", 45))
    assert ledger.wait_for_room() == 45


def test_a_deletion_that_could_not_be_confirmed_is_looked_at_by_who_saw_it(ledger: Ledger) -> None:
    """The next owner's copy may be behind and not show it, so it is not forgotten with the ownership."""
    live(ledger, Row(1, MOVES, deleted=True), Row(2, STAYS, deleted=True))
    serve(ledger, Outcome(failure=Failure(UNCONFIRMED, "one of three has answered")))
    ledger.inform(SHARED, None, 8)
    reviews = [each for each in waiting(ledger) if each.lane is Lane.REVIEW]
    # Anything but a deleted document is as it was last seen to be served.
    assert [(each.document_id, each.deleted) for each in reviews] == [(MOVES, False)]


def test_a_listener_that_leaves_waits_for_nobody_who_has_given_up(ledger: Ledger) -> None:
    """A worker that was not let in any more ends, and its work is the next start's."""
    live(ledger, Row(1, STAYS))
    (begun,) = waiting(ledger)
    ledger.leave()
    assert not ledger.wait_until_left(0.0)
    ledger.abandon(begun)
    assert ledger.wait_until_left(0.0)
    assert ledger.report().checkpoint == 0
