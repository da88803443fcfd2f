"""Many users whose copies on a connected node stay unreadable: few tries while nothing helps, and all soon after."""

import random

import pytest

from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.documents import Documents
from peruserd.core.users.quarantine import Failure, Quarantined
from tests.core.outcomes import RECALL, Outcome

USERS = 3_000
AWAY = Failure("copies_away", "copies cannot be read on n3", waits_for=("n3",))
SERVED = Outcome(provisioned=True, acted_on=False)
NODES = ("n1", "n2", "n3")


class Ward:
    """A listener's documents at work, with a clock: users whose copies on n3 cannot be read until they are `mended`."""

    def __init__(self, users: int = USERS) -> None:
        kept = [
            Quarantined(f"u{each:05}", deleted=False, failure=AWAY, failures=12, since=0.0) for each in range(users)
        ]
        self.documents = Documents(kept, (), recall_seconds=RECALL, now=0.0)
        self.documents.connected(NODES, 0.0)
        self.now = 0.0
        self.mended: set[str] = set()
        self.chance = random.Random(1)

    def run(self, seconds: int) -> int:
        """Let so many seconds pass; return how many tries there were."""
        tries = 0
        for _ in range(seconds):
            self.now += 1.0
            self.documents.take_due(self.now)
            while (change := self.documents.next_in(Lane.RETRY)) is not None:
                tries += 1
                self.documents.take(change)
                if change.document_id in self.mended:
                    kept = self.documents.record(change.document_id).kept
                    self.documents.succeed(change, SERVED, self.now, recall=False)
                    self.documents.retry_same_cause(kept, created=False, now=self.now)
                    continue
                chance = self.chance.random()
                self.documents.fail(change, AWAY, is_mine=True, now=self.now, wall=self.now, chance=chance)
                self.documents.end(change)
        return tries


def test_users_who_wait_for_the_same_copies_are_tried_at_a_pace() -> None:
    """Also from the first second after a restart on, when everybody is due."""
    ward = Ward()
    for _ in range(20):
        assert ward.run(100) <= 3 * 500
    assert ward.documents.recovery.awaited == USERS


def test_all_have_tried_soon_after_the_copies_can_be_read() -> None:
    """Each who is served lets two others try."""
    ward = Ward()
    ward.run(1_000)
    ward.mended = {f"u{each:05}" for each in range(USERS)}
    ward.run(30)
    assert (ward.documents.kept_users.total, ward.documents.recovery.awaited) == (0, 0)


def test_a_few_who_are_served_do_not_wake_all_others_again_and_again() -> None:
    """Single files were broken, and some of these were mended."""
    ward = Ward()
    ward.run(1_000)
    ward.mended = {f"u{each:05}" for each in range(0, USERS, 10)}
    assert ward.run(1_000) <= 10 * 1_000
    assert ward.documents.kept_users.total == USERS - len(ward.mended)


@pytest.mark.parametrize("users", [1, 20])
def test_few_users_are_tried_as_soon_as_others(users: int) -> None:
    """A pace is for many."""
    ward = Ward(users)
    ward.mended = {f"u{each:05}" for each in range(users)}
    ward.run(5)
    assert ward.documents.kept_users.total == 0


def test_others_are_tried_at_once_after_a_restart_however_many_wait_for_copies() -> None:
    """The pace is for those who wait for copies, wherever the others stand among them on the disk."""
    own = Failure("conflict", "somebody else was faster")
    kept = [Quarantined(f"u{each:05}", deleted=False, failure=AWAY, failures=12, since=0.0) for each in range(USERS)]
    kept.append(Quarantined("v", deleted=False, failure=own, failures=1, since=0.0))
    documents = Documents(kept, (), recall_seconds=RECALL, now=0.0)
    documents.take_due(0.0)
    due = []
    while (change := documents.next_in(Lane.RETRY)) is not None:
        due.append(change.document_id)
    assert "v" in due
    assert len(due) < 10
