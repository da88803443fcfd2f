import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import CapturingLogger

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.changes import Change
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Page, Row
from peruserd.core.users.quarantine import Failure
from peruserd.couch.errors import InterruptedRequestError
from peruserd.listener import workers as workers_module
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store, StoreError
from peruserd.listener.workers import Workers
from tests.listener.states import MINE
from tests.listener.trackers import make_tracker
from tests.waiting import PATIENCE_SECONDS, eventually


class SlowProvisioner:
    """Acts on a user when told to; records the users in work, and the largest number at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.active: list[str] = []
        self.most = 0
        self.done: list[tuple[str, bool]] = []
        self.go = threading.Event()
        self.outcome = Outcome(provisioned=True)
        self.error: BaseException | None = None

    def act(self, change: Change) -> Outcome:
        """Wait, and give the outcome."""
        with self.lock:
            assert change.document_id not in self.active
            self.active.append(change.document_id)
            self.most = max(self.most, len(self.active))
        assert self.go.wait(PATIENCE_SECONDS)
        with self.lock:
            self.active.remove(change.document_id)
            self.done.append((change.document_id, change.deleted))
        if self.error is not None:
            raise self.error
        return self.outcome


class WorkersHarness:
    """Workers on a real tracker."""

    def __init__(self, path: Path, *, most: int, share: int) -> None:
        self.store = Store.open(path)
        self.tracker = make_tracker(ownership=MINE, share=share, store=self.store)
        self.tracker.open(Identity("copy", 0))
        self.provisioner = SlowProvisioner()
        self.errors: list[BaseException] = []
        self.stopping = threading.Event()
        self.before = set(threading.enumerate())
        self.workers = Workers(
            self.tracker,
            cast("Any", self.provisioner),
            most,
            self.errors.append,
            is_stopping=self.stopping.is_set,
        )
        self.workers.start()
        self._seq = 0

    def enter(self, *names: str, deleted: bool = False) -> None:
        """Let a page of changes come."""
        rows = [Row(self._seq + count, user_document_id(name), deleted) for count, name in enumerate(names, start=1)]
        self._seq += len(rows)
        self.tracker.enter_live(Page(rows, self._seq))

    def threads(self) -> list[threading.Thread]:
        """Return the workers that run."""
        return [each for each in threading.enumerate() if each not in self.before and each.name.startswith("worker")]


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[WorkersHarness]:
    """Up to four workers of whom at most three may work, unless a test says otherwise."""
    most, share = getattr(request, "param", (4, 3))
    made = WorkersHarness(tmp_path / "copy.sqlite", most=most, share=share)
    yield made
    made.provisioner.go.set()
    made.stopping.set()
    made.tracker.stop()
    for thread in made.threads():
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    made.store.close()


def test_few_workers_are_enough_while_there_is_little(harness: WorkersHarness) -> None:
    """Users who come one at a time are served by one worker, while another waits in case that one takes long."""
    harness.provisioner.go.set()
    for number in range(5):
        harness.enter(str(number))
        eventually(lambda: harness.tracker.report().checkpoint == number + 1, "the user is served")  # noqa: B023
    assert len(harness.threads()) <= 2


def test_a_slow_user_holds_up_nobody_who_comes_next(harness: WorkersHarness) -> None:
    """While the only worker waits for a server that does not answer, other workers serve later users."""
    harness.enter("ann")
    eventually(lambda: len(harness.provisioner.active) == 1, "ann is worked on")
    harness.enter("bob")
    eventually(lambda: len(harness.provisioner.active) == 2, "bob is worked on, too")


def test_workers_grow_with_the_work_up_to_the_share(harness: WorkersHarness) -> None:
    """Many users are served at once, but never more than the share, even with more idle workers."""
    harness.enter(*map(str, range(20)))
    eventually(lambda: len(harness.provisioner.active) == 3, "three are worked on")
    harness.provisioner.go.set()
    eventually(lambda: harness.tracker.report().checkpoint == 20, "all are served")
    assert harness.provisioner.most == 3
    assert len(harness.threads()) <= 4


@pytest.mark.parametrize("harness", [(2, 10)], indirect=True)
def test_there_are_never_more_workers_than_allowed(harness: WorkersHarness) -> None:
    """For any share there are at most `most` threads."""
    harness.enter(*map(str, range(20)))
    eventually(lambda: len(harness.provisioner.active) == 2, "two are worked on")
    assert len(harness.threads()) == 2


@pytest.mark.parametrize("harness", [(2, 10)], indirect=True)
def test_a_limit_that_grows_lets_more_workers_begin(harness: WorkersHarness) -> None:
    """A reload of the configuration raises it, and the users who wait already have the benefit."""
    harness.enter(*map(str, range(20)))
    eventually(lambda: len(harness.provisioner.active) == 2, "two are worked on")
    harness.workers.most = 5
    harness.provisioner.go.set()
    eventually(lambda: harness.tracker.report().checkpoint == 20, "all are served")
    harness.provisioner.go.clear()
    harness.enter(*map(str, range(100, 120)))
    eventually(lambda: len(harness.provisioner.active) == 5, "five are worked on")


def test_one_documents_changes_are_acted_on_in_order(harness: WorkersHarness) -> None:
    """A change of a document in work is acted on after that work; changes of others are acted on meanwhile."""
    harness.enter("ann")
    eventually(lambda: harness.provisioner.active, "ann is worked on")
    harness.enter("ann", deleted=True)
    harness.enter("bob")
    eventually(lambda: len(harness.provisioner.active) == 2, "bob is worked on")
    harness.provisioner.go.set()
    eventually(lambda: harness.tracker.report().checkpoint == 3, "all is done")
    ann = user_document_id("ann")
    assert [deleted for name, deleted in harness.provisioner.done if name == ann] == [False, True]


def test_a_failed_user_holds_up_nobody(harness: WorkersHarness) -> None:
    """A user whose work fails goes to quarantine, and the worker goes on with the next."""
    harness.provisioner.outcome = Outcome(failure=Failure("conflict", "409"))
    harness.provisioner.go.set()
    harness.enter(*map(str, range(10)))
    eventually(lambda: harness.tracker.report().checkpoint == 10, "all were tried")
    assert harness.tracker.report().counters.failures["conflict"] >= 10
    assert not harness.errors


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unforeseen"),
        StoreError("disk full"),
        SystemExit(1),
        InterruptedRequestError("by nobody"),
    ],
    ids=repr,
)
def test_an_error_of_nobodys_is_handed_up(harness: WorkersHarness, error: BaseException) -> None:
    """An error that no user caused goes to the listener, and it cannot go on; the checkpoint does not move."""
    harness.provisioner.error = error
    harness.provisioner.go.set()
    harness.enter("ann")
    eventually(lambda: harness.errors, "the error is handed up")
    assert harness.errors == [error]
    assert harness.tracker.report().checkpoint == 0
    assert harness.tracker.wait_until_idle(0.0), "the end does not wait for work that nobody does"


def test_an_interruption_at_the_end_is_no_error(harness: WorkersHarness) -> None:
    """The listener has interrupted the request itself, and waits for nobody."""
    harness.stopping.set()
    harness.provisioner.error = InterruptedRequestError("the listener stops")
    harness.provisioner.go.set()
    harness.enter("ann")
    eventually(lambda: harness.provisioner.done, "ann was worked on")
    assert harness.tracker.wait_until_idle(PATIENCE_SECONDS), "nobody waits for ann"
    assert harness.tracker.report().checkpoint == 0
    assert harness.errors == []


def test_where_no_thread_can_be_started_the_others_do_the_work(
    harness: WorkersHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without room for more threads serves fewer users at once, and says so once."""
    log = CapturingLogger()
    monkeypatch.setattr(workers_module, "log", log)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        harness.provisioner.go.set()
        harness.enter(*map(str, range(20)))
        eventually(lambda: harness.tracker.report().checkpoint == 20, "all are served")
        assert len(harness.threads()) == 1
    assert harness.errors == []
    assert [call.method_name for call in log.calls] == ["warning"]
    harness.enter("later")
    eventually(lambda: len(harness.threads()) > 1, "another one is started once that is possible")
