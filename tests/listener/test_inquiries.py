"""An operator's questions about the quarantine, as a listener answers them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.lanes import Lane
from peruserd.core.scheduling.records import Record
from peruserd.core.users.inquiries import MAX_ON_A_PAGE, Inquiry, KeptUser, QuarantineAction
from peruserd.core.users.quarantine import Advice, Failure
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener import failures as failures_module
from peruserd.listener.outcome import Outcome
from tests.listener.clocks import Clock
from tests.listener.ownerships import DONE
from tests.listener.stepped_tracker import SteppedTracker

HELD = Failure("held", "the database was there before", Advice.ASK_OPERATOR)
BUSY = Failure("conflict", "409 conflict")


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SteppedTracker]:
    """Three users in quarantine: ann and cid for a passing reason, bob for a permanent one."""
    clock = Clock()
    monkeypatch.setattr(tracker_module, "time", clock)
    made = SteppedTracker(tmp_path / "copy.sqlite", clock)
    for name, failure in (("cid", BUSY), ("ann", BUSY), ("bob", HELD)):
        made.sign_up(name)
        made.serve(Outcome(failure=failure))
    yield made
    made.store.close()


def ask(
    stepped: SteppedTracker, action: QuarantineAction = QuarantineAction.LIST, *names: str, kind: str | None = None
) -> list[KeptUser]:
    """Return the users of all pages."""
    inquiry = Inquiry(1, action, tuple(map(user_document_id, names)), kind)
    page = stepped.tracker.failures.inquire(inquiry)
    assert (page.number, page.more) == (1, False)
    return list(page.users)


def names(users: list[KeptUser]) -> list[str]:
    """Return the users' names."""
    return [each.document.removeprefix("org.couchdb.user:") for each in users]


def test_all_that_is_known_of_a_user_is_told(stepped: SteppedTracker) -> None:
    """The answer has the failure, its number and first date, the remedy, and the time of the next try."""
    stepped.clock.now += 10.0
    shown = ask(stepped, QuarantineAction.LIST, "bob")
    assert len(shown) == 1
    (bob,) = shown
    assert (bob.kind, bob.error, bob.advice, bob.passing) == ("held", HELD.message, "ask_operator", False)
    assert (bob.failures, bob.since, bob.deleted, bob.waits_for) == (1, 1000.0, False, ())
    assert bob.next_try_in is not None
    assert 0.0 <= bob.next_try_in <= 60.0


def test_users_are_listed_by_name_or_kind(stepped: SteppedTracker) -> None:
    """Users are in the order of their ids; users outside the quarantine are not listed."""
    assert names(ask(stepped)) == ["ann", "bob", "cid"]
    assert names(ask(stepped, kind="conflict")) == ["ann", "cid"]
    assert names(ask(stepped, QuarantineAction.LIST, "cid", "dan", "ann")) == ["ann", "cid"]
    assert ask(stepped, QuarantineAction.LIST, "bob", kind="conflict") == []


def test_pages_are_bounded_and_go_on_where_the_last_one_ended(stepped: SteppedTracker) -> None:
    """However many are in quarantine, one answer is small."""
    for number in range(2 * MAX_ON_A_PAGE):
        stepped.sign_up(f"u{number:03}")
        stepped.serve(Outcome(failure=BUSY))
    seen: list[str] = []
    more, after = True, ""
    while more:
        page = stepped.tracker.failures.inquire(Inquiry(7, QuarantineAction.LIST, after=after))
        assert 0 < len(page.users) <= MAX_ON_A_PAGE
        seen += names(list(page.users))
        more, after = page.more, page.users[-1].document
    assert seen == sorted(seen)
    assert len(seen) == 3 + 2 * MAX_ON_A_PAGE


def test_a_user_is_tried_at_once_when_the_operator_says_so(stepped: SteppedTracker) -> None:
    """The answer shows the earlier state; a served user leaves quarantine, also on disk."""
    assert names(ask(stepped, QuarantineAction.RETRY, "bob")) == ["bob"]
    assert stepped.serve_all(DONE) == ["bob"]
    stepped.tracker.save()
    assert (stepped.kept, names(ask(stepped))) == (["ann", "cid"], ["ann", "cid"])
    assert names(ask(stepped, QuarantineAction.RETRY, kind="conflict")) == ["ann", "cid"]
    # A second request changes nothing.
    ask(stepped, QuarantineAction.RETRY)
    assert stepped.serve_all(DONE) == ["ann", "cid"]
    assert stepped.tracker.report().counters.retries == 3


def test_a_user_whom_nothing_but_a_change_helps_can_be_tried_too(stepped: SteppedTracker) -> None:
    """The operator's retry overrides that."""
    stepped.sign_up("dan")
    stepped.serve(Outcome(failure=Failure("database_deleted", "words", Advice.GIVE_UP)))
    (dan,) = ask(stepped, QuarantineAction.LIST, "dan")
    assert dan.next_try_in is None
    ask(stepped, QuarantineAction.RETRY, "dan")
    assert stepped.serve_all(DONE) == ["dan"]


def test_a_forgotten_user_comes_back_only_with_another_change(stepped: SteppedTracker) -> None:
    """Nothing is tried any more, neither now nor by the next process, until the document changes again."""
    assert names(ask(stepped, QuarantineAction.FORGET, "ann", "bob")) == ["ann", "bob"]
    stepped.clock.now += 10_000.0
    stepped.tracker.queue_due()
    assert stepped.serve_all(DONE) == ["cid"]
    stepped.tracker.save()
    assert stepped.kept == []
    stepped.sign_up("ann")
    assert stepped.serve_all(DONE) == ["ann"]


def test_to_forget_a_user_who_is_tried_just_then_takes_nothing_away(stepped: SteppedTracker) -> None:
    """The work under way goes on; if it fails, the user goes to quarantine again."""
    ask(stepped, QuarantineAction.RETRY, "ann")
    change = stepped.take()
    assert change is not None
    ask(stepped, QuarantineAction.FORGET, "ann")
    stepped.tracker.give_back(change, Outcome(failure=BUSY))
    assert "ann" in names(ask(stepped))


def test_the_report_tells_permanent_and_passing_apart(stepped: SteppedTracker) -> None:
    """Users who need somebody's help are also counted separately."""
    report = stepped.tracker.report()
    assert (report.quarantined, report.permanent) == (3, 1)
    ask(stepped, QuarantineAction.FORGET, "bob")
    report = stepped.tracker.report()
    assert (report.quarantined, report.permanent) == (2, 0)


class _Counted(dict[str, Record]):
    """Records that count how often somebody goes through all of them."""

    passes = 0

    def items(self) -> Any:
        self.passes += 1
        return super().items()


def test_all_pages_are_one_pass_through_the_records(stepped: SteppedTracker) -> None:
    """Tens of thousands of users are hundreds of pages, and other threads wait for the lock during each."""
    many = [f"u{number:03}" for number in range(3 * MAX_ON_A_PAGE)]
    stepped.sign_up(*many)
    stepped.serve_all(Outcome(failure=BUSY))
    documents = stepped.tracker._state.documents
    counted = documents._records = _Counted(documents._records)
    found: list[str] = []
    inquiry = Inquiry(1, QuarantineAction.LIST)
    while (page := stepped.tracker.failures.inquire(inquiry)).more:
        found += names(list(page.users))
        inquiry = msgspec.structs.replace(inquiry, after=page.users[-1].document)
        # A user who is served meanwhile has left the quarantine.
        stepped.sign_up(f"u{MAX_ON_A_PAGE + len(found):03}")
        stepped.serve(DONE)
    found += names(list(page.users))
    assert found == [each for each in ("ann", "bob", "cid", *many) if each not in ("u200", "u300")]
    assert counted.passes == 1
    assert documents._listed is None


def test_a_look_that_a_forgotten_retry_was_to_do_for_is_taken_up(
    stepped: SteppedTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker who sleeps is woken for it, because nothing else may happen for a long time."""
    stepped.clock.now += 1_000.0
    stepped.tracker.queue_due()
    stepped.tracker.look([user_document_id("ann")], Lane.OTHERS, 1)
    offered: list[int] = []
    monkeypatch.setattr(stepped.tracker._changed, "notify_workers", offered.append)
    ask(stepped, QuarantineAction.FORGET, "ann")
    assert offered == [1]
    stepped.clock.now += 1_000.0
    assert "ann" in stepped.serve_all(DONE)
    assert stepped.tracker.report().looked == 1


def test_one_line_of_the_log_tells_of_many_users_who_wait_for_copies(
    stepped: SteppedTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have one reason together, and are counted in that line."""
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(failures_module.log, "warning", lambda _event, **more: lines.append(more))
    away = Failure("copies_disagree", "they differ", waits_for=("n3",))
    for number in range(300):
        stepped.sign_up(f"u{number:03}")
        stepped.serve(Outcome(failure=away))
    assert len([each for each in lines if "document" in each]) == 100
    (told,) = (each for each in lines if "users" in each)
    assert (told["users"], told["nodes"]) == (101, ("n3",))
    stepped.clock.now += 60.0
    stepped.sign_up("another")
    stepped.serve(Outcome(failure=away))
    assert lines[-1]["users"] == 301


@pytest.mark.parametrize("waits", [False, True])
def test_a_retry_does_not_wait_for_the_rest_of_a_restless_user(stepped: SteppedTracker, *, waits: bool) -> None:
    """The operator's retry is for now, with or without a waiting change of the user."""
    for number in range(6):
        stepped.sign_up("dan", deleted=number % 2 == 0)
        stepped.serve_all(Outcome(failure=HELD))
    stepped.clock.now += 60.0
    stepped.tracker.queue_due()
    assert "dan" in stepped.serve_all(Outcome(failure=HELD))
    if waits:
        stepped.sign_up("dan")
        assert "dan" not in stepped.serve_all(DONE)
    ask(stepped, QuarantineAction.RETRY, "dan")
    assert "dan" in stepped.serve_all(DONE)
    assert ask(stepped, QuarantineAction.LIST, "dan") == []
