"""A tracker whose clock is set by the test, and outcomes of work to enter into it."""

from pathlib import Path

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.changes import Change
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Page, Row
from peruserd.core.users.quarantine import Failure
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from tests.listener.clocks import Clock
from tests.listener.disks import NeverWaits, WouldBlockError
from tests.listener.ownerships import DONE, MINE
from tests.listener.trackers import make_tracker

SEEN = Outcome(acted_on=False, provisioned=True)
AWAY = Outcome(failure=Failure("no_majority", "500 no_majority"))
WHY = "no majority answers"


class SteppedTracker:
    """A tracker without threads on a real store, whose clock is set."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.clock = clock
        self._path = path
        self._seq = 0
        self.begin()
        for _ in range(3):
            task = self.tracker.wait_for_scan()
            assert task is not None
            self.tracker.enter_scan(task, Page([], 0), ())

    def begin(self) -> None:
        """Open the store and the tracker, as a process that starts."""
        self.store = Store.open(self._path)
        self.tracker: ChangeTracker = make_tracker(ownership=MINE, share=4, store=self.store)
        self.tracker._changed = NeverWaits()
        self.tracker.open(Identity("copy", self._seq))

    def sign_up(self, *names: str, deleted: bool = False) -> None:
        """Enter a page of the live feed."""
        rows = []
        for name in names:
            self._seq += 1
            rows.append(Row(self._seq, user_document_id(name), deleted))
        self.tracker.enter_live(Page(rows, self._seq))

    def take(self) -> Change | None:
        """Take a change, if one is given out."""
        try:
            return self.tracker.take()
        except WouldBlockError:
            return None

    def serve(self, outcome: Outcome) -> str:
        """Take a change that must be there and give it back; return the user."""
        change = self.take()
        assert change is not None, "no work is given out"
        self.tracker.give_back(change, outcome)
        return change.document_id.removeprefix("org.couchdb.user:")

    def serve_all(self, outcome: Outcome = DONE) -> list[str]:
        """Serve everybody who waits, one after the other."""
        served = []
        while (change := self.take()) is not None:
            self.tracker.give_back(change, outcome)
            served.append(change.document_id.removeprefix("org.couchdb.user:"))
        return served

    def probe(self, why: str | None, after: float = 2.0) -> bool:
        """Answer the probe, if it is due after so many seconds."""
        self.clock.now += after
        try:
            assert self.tracker.failures.wait_for_probe()
        except WouldBlockError:
            return False
        self.tracker.failures.probed(why)
        return True

    @property
    def kept(self) -> list[str]:
        """The users in quarantine on disk."""
        return sorted(each.document_id.removeprefix("org.couchdb.user:") for each in self.store.load()[1])
