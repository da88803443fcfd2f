"""The pure state of a listener as tests drive it, without threads, disk and clock."""

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.changes import Change
from peruserd.core.feed.progress import Identity, OnDisk, SavedProgress
from peruserd.core.feed.rows import Page, Row
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.scheduling.listener_state import ListenerState
from peruserd.core.users.quarantine import UNSERVABLE_NAME, Advice, Failure
from peruserd.listener.outcome import Outcome
from tests.listener.trackers import RECALL_SECONDS

MINE = Ownership("_users", WHOLE_SPACE, ((WHOLE_SPACE, ("me",)),), ("me",))
SETTLED = SavedProgress("copy", 0, MINE, covered=(MINE,))
MADE = Outcome(provisioned=True, created=True, security_written=True, acted_on=False)
ALREADY = Outcome(provisioned=True, acted_on=False)
REVOKED = Outcome(revoked=True, security_written=True, acted_on=True)
TOO_LONG = Outcome(failure=Failure(UNSERVABLE_NAME, "the user name has 200 bytes", Advice.GIVE_UP))
FAILED = Outcome(failure=Failure("conflict", "409"))


def unopened(
    *, share: int = 8, new_per_minute: int = 0, saved: SavedProgress | None = SETTLED, cut_off: bool = False
) -> ListenerState:
    """Return the state of a listener that owns everything and does not know its copy yet."""
    return ListenerState(
        "me",
        MINE,
        OnDisk(saved),
        upcoming=None,
        share=share,
        new_per_minute=new_per_minute,
        nodes=(),
        cut_off=cut_off,
        resume_near=None,
        recall_seconds=RECALL_SECONDS,
        digest="",
        now=0.0,
    )


def listening(
    *, share: int = 8, new_per_minute: int = 0, saved: SavedProgress = SETTLED, cut_off: bool = False
) -> ListenerState:
    """Return the state of a listener that owns everything and has scanned it."""
    made = unopened(share=share, new_per_minute=new_per_minute, saved=saved, cut_off=cut_off)
    made.open(Identity("copy", 1_000_000), 0.0)
    return made


class Feed:
    """The live feed of a listener's state."""

    def __init__(self, state: ListenerState) -> None:
        self.state = state
        self.seq = 0

    def enter(self, *names: str, deleted: bool = False, now: float = 0.0) -> None:
        """Enter a page with a row for each name."""
        rows = [Row(self.seq + number, user_document_id(name), deleted) for number, name in enumerate(names, start=1)]
        self.seq += len(rows)
        self.state.enter_live(Page(rows, self.seq), now)

    def work(self, outcome: Outcome, now: float) -> list[Change]:
        """Act on all changes that are given out now."""
        self.state.queue_due(now)
        acted = []
        while (change := self.state.dispatch.next(now)) is not None:
            acted.append(change)
            if outcome.failure is None:
                self.state.succeeded(change, outcome, now)
            else:
                self.state.failed(change, outcome, outcome.failure, now=now, wall=now, chance=0.5)
                self.state.given_up(change, now, created=False)
        return acted
