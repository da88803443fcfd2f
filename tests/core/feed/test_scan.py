"""The state of a scan: how far its sweep is read."""

import pytest

from peruserd.core.feed.progress import SavedProgress, Scan
from peruserd.core.feed.rows import PAGE_ROWS, Page, Row, Sequence
from peruserd.core.feed.scan import ScanState
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE

ME = "server"


def _state_of(until: Sequence) -> ScanState:
    state = ScanState()
    ownership = Ownership("_users", WHOLE_SPACE, ((WHOLE_SPACE, (ME,)),), (ME,))
    state.begin(SavedProgress("uuid", until, ownership, scan=Scan(until)), ME)
    return state


def _entered(state: ScanState, rows: int, last: Sequence, *, cut: bool = False) -> bool:
    """Enter a page whose rows need nothing; say whether the sweep is read to its end."""
    assert state.task is not None
    state.task.mark.advance(last)
    state.entered(Page([Row(last, f"org.couchdb.user:{number}") for number in range(rows)], last, cut=cut))
    return state.is_finished


def test_a_scan_of_opaque_sequences_ends_although_rows_come_all_the_time() -> None:
    """Each page has a row that came a moment ago, and the live feed reads it as well."""
    state = _state_of("9-abc")
    assert not _entered(state, PAGE_ROWS, "5-abc")
    assert not _entered(state, 3, "6-abc", cut=True)
    assert _entered(state, 1, "10-abc")


@pytest.mark.parametrize(("last", "ends"), [(8, False), (9, True), (12, True)])
def test_a_scan_of_numbers_ends_where_live_begins(last: int, ends: bool) -> None:  # noqa: FBT001
    """A page that is not full ends it only if it goes that far."""
    assert _entered(_state_of(9), 1, last) is ends


@pytest.mark.parametrize("until", [9, "9-abc"])
def test_a_page_without_rows_ends_a_scan(until: Sequence) -> None:
    """A copy that was replaced can be shorter than was thought."""
    assert _entered(_state_of(until), 0, until)
