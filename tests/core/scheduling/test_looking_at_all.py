"""Requests to look at every user. Scans answer them, and a restart does not forget these scans."""

from collections.abc import Iterator

from peruserd.core.feed.intake import Intake
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity, SavedProgress, Sweep
from peruserd.core.feed.rows import Leaf, Page, Row
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap

SHARD_MAP = ShardMap("_users", ".1", {WHOLE_SPACE: ("n1", "n2")})
ALONE = Ownership.of(SHARD_MAP, WHOLE_SPACE, ["n1"])
BOTH = Ownership.of(SHARD_MAP, WHOLE_SPACE, ["n1", "n2"])
COPY = Identity("copy", 3)


def _row(number: int) -> Row:
    return Row(number, f"org.couchdb.user:{number}", deleted=False, changes=(Leaf("1-a"),))


def _opened(saved: SavedProgress | None = None) -> Intake:
    """Return an intake that has read everything, or one that continues from saved progress."""
    intake = Intake("n1", ALONE, saved or SavedProgress("copy", 3, ALONE, covered=(ALONE,)), None, "")
    intake.open(COPY)
    return intake


def _pages(intake: Intake) -> Iterator[list[str]]:
    """Read one row of the scan after the other, with the work on it; return whom it looks at."""
    while (task := intake.scan_task) is not None and intake.scan_has_room:
        after = int(task.since)
        rows = [_row(after + 1)] if after < 3 else []
        changes = intake.enter_scan_page(task, Page(rows, after + len(rows)), (), 0.0) or []
        assert all(each.lane is Lane.SCAN and each.contested for each in changes)
        for change in changes:
            change.finish()
        intake.advance_scan()
        yield [each.document_id for each in changes]


def _read(intake: Intake, pages: int = 100) -> set[str]:
    found = (each for _, page in zip(range(pages), _pages(intake), strict=False) for each in page)
    return set(found)


def test_everybody_is_looked_at_before_a_request_is_done() -> None:
    """Each user is asked for copy by copy, whether or not the database is there."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    _read(intake, pages=3)
    assert intake.looked_at_all == 0
    assert _read(intake) == {f"org.couchdb.user:{number}" for number in (1, 2, 3)}
    assert intake.looked_at_all == 7
    assert not intake.is_scanning


def test_a_scan_goes_on_where_it_was_after_a_restart() -> None:
    """The request is told again, and answered by the scan that is on disk."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    _read(intake, pages=5)
    saved = intake.progress
    assert saved is not None
    assert saved.scan is not None
    assert (saved.scan.sweep, saved.scan.position) == (Sweep.SECURITY, 2)
    again = _opened(saved)
    again.look_at_all("me 7", 7)
    assert _read(again) == {"org.couchdb.user:3"}
    assert again.looked_at_all == 7
    once_more = _opened(again.progress)
    once_more.look_at_all("me 7", 7)
    assert (once_more.is_scanning, once_more.looked_at_all) == (False, 7), "it was done before the restart"


def test_another_request_amidst_a_scan_begins_none_before_that_one_ends() -> None:
    """A flapping node keeps no scan from its end. The new scan then looks again at the part already read."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    _read(intake, pages=5)
    for number in (8, 9):
        intake.look_at_all(f"me {number}", number)
    saved = intake.progress
    assert saved is not None
    assert saved.owed, "a restart does not forget it"
    found = [each for _, page in zip(range(2), _pages(intake), strict=False) for each in page]
    assert found == ["org.couchdb.user:3"]
    assert intake.looked_at_all == 7
    assert len(_read(intake)) == 3
    assert intake.looked_at_all == 9


def test_a_request_of_another_process_is_another_one() -> None:
    """Its numbers begin anew, and the scan on disk can have passed whom it asks for."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    _read(intake, pages=5)
    again = _opened(intake.progress)
    again.look_at_all("another 7", 7)
    assert len(_read(again)) == 3
    assert again.looked_at_all == 7


def test_a_request_before_the_copy_is_open_is_answered() -> None:
    """It can be the first thing that a listener hears."""
    for saved in (
        None,
        SavedProgress("copy", 3, ALONE, covered=(ALONE,)),
        SavedProgress("another", 9, ALONE, covered=(ALONE,)),
    ):
        intake = Intake("n1", ALONE, saved, None, "")
        intake.look_at_all("me 2", 2)
        assert saved is None or (intake.progress or saved).owed
        intake.open(COPY)
        assert len(_read(intake)) == 3
        assert intake.looked_at_all == 2


def test_a_scan_that_is_owed_for_another_reason_stays_owed() -> None:
    """A write while the cluster was cut can be set back when it is whole again."""
    intake = _opened()
    intake.connect(cut_off=True, now=0.0)
    intake.look_at_all("me 7", 7)
    _read(intake)
    assert intake.looked_at_all == 7
    assert intake.progress is not None
    assert intake.progress.owed


def test_a_change_of_the_owner_amid_a_scan_takes_no_care_away() -> None:
    """The scan begins again for other documents, and each of them is still asked for copy by copy."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    _read(intake, pages=5)
    intake.change_owner(BOTH)
    for again in (intake, _opened(intake.progress)):
        saved = again.progress
        assert saved is not None
        assert saved.scan is not None
        assert (saved.scan.position, saved.scan.careful) == (0, True)
    mine = {f"org.couchdb.user:{each}" for each in (1, 2, 3) if BOTH.belongs_to("n1")(f"org.couchdb.user:{each}")}
    assert mine
    assert _read(intake) == mine
    assert intake.looked_at_all == 7


def test_rows_behind_the_end_of_a_scan_are_the_live_feeds() -> None:
    """A page of a scan can have those who have signed up since it began, and the live feed serves them."""
    intake = _opened()
    intake.look_at_all("me 7", 7)
    for _ in Sweep.DATABASES, Sweep.SECURITY:
        task = intake.scan_task
        assert task is not None
        late = [_row(4), Row(5, "org.couchdb.user:5", deleted=True, changes=(Leaf("2-a"),))]
        page = Page([_row(1), _row(2), _row(3), *late], 5)
        changes = intake.enter_scan_page(task, page, {each.id for each in page.results}, 0.0)
        assert changes is not None
        assert [each.sequence for each in changes] == [1, 2, 3]
        for change in changes:
            change.finish()
        intake.advance_scan()
    assert intake.looked_at_all == 7


def test_a_user_whose_document_changes_amid_a_scan_is_looked_at_with_care_all_the_same() -> None:
    """The row is behind the end of the scan then, and only the live feed shows it. New users need no care."""
    intake = _opened()
    rows = [Row(4, "org.couchdb.user:1", changes=(Leaf("2-b"),)), _row(5)]
    intake.look_at_all("me 7", 7)
    changes = intake.enter_live_page(Page(rows, 5), 0.0)
    assert [(each.sequence, each.contested) for each in changes] == [(4, True), (5, False)]
    for change in changes:
        change.finish()
    assert _read(intake) == {f"org.couchdb.user:{number}" for number in (1, 2, 3)}
    later = intake.enter_live_page(Page([Row(6, "org.couchdb.user:1", changes=(Leaf("3-c"),))], 6), 0.0)
    assert [each.contested for each in later] == [False]
