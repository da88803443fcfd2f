"""An operator's questions about the quarantine, as a listener answers them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peruserd.core.common.names import user_document_id
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.inquiries import MAX_ON_A_PAGE, Inquiry, KeptUser, Wish
from peruserd.core.users.quarantine import Advice, Failure
from peruserd.core.work.records import Record
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener import failures as failures_module
from peruserd.listener.outcome import Outcome
from tests.listener.clocks import Clock
from tests.listener.set_books import DONE, Books

HELD = Failure("held", "the database was there before", Advice.ASK_OPERATOR)
BUSY = Failure("conflict", "409 conflict")


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Books]:
    """Books with three users in quarantine: ann and cid for a reason that passes, bob for one that does not."""
    clock = Clock()
    monkeypatch.setattr(tracker_module, "time", clock)
    made = Books(tmp_path / "copy.sqlite", clock)
    for name, failure in (("cid", BUSY), ("ann", BUSY), ("bob", HELD)):
        made.sign_up(name)
        made.serve(Outcome(failure=failure))
    yield made
    made.store.close()


def ask(books: Books, wish: Wish = Wish.LIST, *names: str, kind: str | None = None) -> list[KeptUser]:
    """Return the users of all pages."""
    inquiry = Inquiry(1, wish, tuple(map(user_document_id, names)), kind)
    page = books.tracker.failures.inquire(inquiry)
    assert (page.number, page.more) == (1, False)
    return list(page.users)


def names(users: list[KeptUser]) -> list[str]:
    """Return the users' names."""
    return [each.document.removeprefix("org.couchdb.user:") for each in users]


def test_all_that_is_known_of_a_user_is_told(books: Books) -> None:
    """What failed, how often and since when, what helps, and when the user is tried again."""
    books.clock.now += 10.0
    shown = ask(books, Wish.LIST, "bob")
    assert len(shown) == 1
    (bob,) = shown
    assert (bob.kind, bob.error, bob.advice, bob.passing) == ("held", HELD.message, "ask_operator", False)
    assert (bob.failures, bob.since, bob.deleted, bob.waits_for) == (1, 1000.0, False, ())
    assert bob.next_try_in is not None
    assert 0.0 <= bob.next_try_in <= 60.0


def test_users_are_listed_by_name_or_kind(books: Books) -> None:
    """In the order of their ids; who is not in quarantine is not listed."""
    assert names(ask(books)) == ["ann", "bob", "cid"]
    assert names(ask(books, kind="conflict")) == ["ann", "cid"]
    assert names(ask(books, Wish.LIST, "cid", "dan", "ann")) == ["ann", "cid"]
    assert ask(books, Wish.LIST, "bob", kind="conflict") == []


def test_pages_are_bounded_and_go_on_where_the_last_one_ended(books: Books) -> None:
    """However many are in quarantine, one answer is small."""
    for number in range(2 * MAX_ON_A_PAGE):
        books.sign_up(f"u{number:03}")
        books.serve(Outcome(failure=BUSY))
    seen: list[str] = []
    more, after = True, ""
    while more:
        page = books.tracker.failures.inquire(Inquiry(7, Wish.LIST, after=after))
        assert 0 < len(page.users) <= MAX_ON_A_PAGE
        seen += names(list(page.users))
        more, after = page.more, page.users[-1].document
    assert seen == sorted(seen)
    assert len(seen) == 3 + 2 * MAX_ON_A_PAGE


def test_a_user_is_tried_at_once_when_the_operator_says_so(books: Books) -> None:
    """The answer shows the user as it was; who is served leaves quarantine, also on disk."""
    assert names(ask(books, Wish.RETRY, "bob")) == ["bob"]
    assert books.serve_all(DONE) == ["bob"]
    books.tracker.save()
    assert (books.kept, names(ask(books))) == (["ann", "cid"], ["ann", "cid"])
    assert names(ask(books, Wish.RETRY, kind="conflict")) == ["ann", "cid"]
    # Asked for twice is asked for once.
    ask(books, Wish.RETRY)
    assert books.serve_all(DONE) == ["ann", "cid"]
    assert books.tracker.report().counters.retries == 3


def test_a_user_whom_nothing_but_a_change_helps_can_be_tried_too(books: Books) -> None:
    """The operator knows better."""
    books.sign_up("dan")
    books.serve(Outcome(failure=Failure("database_deleted", "words", Advice.GIVE_UP)))
    (dan,) = ask(books, Wish.LIST, "dan")
    assert dan.next_try_in is None
    ask(books, Wish.RETRY, "dan")
    assert books.serve_all(DONE) == ["dan"]


def test_a_forgotten_user_comes_back_only_with_another_change(books: Books) -> None:
    """Nothing is tried any more, neither now nor by the next process, until the document changes again."""
    assert names(ask(books, Wish.FORGET, "ann", "bob")) == ["ann", "bob"]
    books.clock.now += 10_000.0
    books.tracker.retry_due()
    assert books.serve_all(DONE) == ["cid"]
    books.tracker.save()
    assert books.kept == []
    books.sign_up("ann")
    assert books.serve_all(DONE) == ["ann"]


def test_to_forget_a_user_who_is_tried_just_then_takes_nothing_away(books: Books) -> None:
    """The work under way ends as it ends; one that fails is in quarantine anew."""
    ask(books, Wish.RETRY, "ann")
    change = books.take()
    assert change is not None
    ask(books, Wish.FORGET, "ann")
    books.tracker.give_back(change, Outcome(failure=BUSY))
    assert "ann" in names(ask(books))


def test_the_report_tells_permanent_and_passing_apart(books: Books) -> None:
    """Users whom time alone does not help are counted by themselves, too."""
    report = books.tracker.report()
    assert (report.quarantined, report.permanent) == (3, 1)
    ask(books, Wish.FORGET, "bob")
    report = books.tracker.report()
    assert (report.quarantined, report.permanent) == (2, 0)


class _Counted(dict[str, Record]):
    """Records that count how often somebody goes through all of them."""

    passes = 0

    def items(self) -> Any:
        self.passes += 1
        return super().items()


def test_all_pages_are_one_pass_through_the_records(books: Books) -> None:
    """Tens of thousands of users are as many pages as hundreds, and others wait for the books meanwhile."""
    many = [f"u{number:03}" for number in range(3 * MAX_ON_A_PAGE)]
    books.sign_up(*many)
    books.serve_all(Outcome(failure=BUSY))
    documents = books.tracker._state.documents
    counted = documents._records = _Counted(documents._records)
    found: list[str] = []
    inquiry = Inquiry(1, Wish.LIST)
    while (page := books.tracker.failures.inquire(inquiry)).more:
        found += names(list(page.users))
        inquiry = msgspec.structs.replace(inquiry, after=page.users[-1].document)
        # One who is served meanwhile is not there any more.
        books.sign_up(f"u{MAX_ON_A_PAGE + len(found):03}")
        books.serve(DONE)
    found += names(list(page.users))
    assert found == [each for each in ("ann", "bob", "cid", *many) if each not in ("u200", "u300")]
    assert counted.passes == 1
    assert documents._listed is None


def test_a_look_that_a_forgotten_retry_was_to_do_for_is_taken_up(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker who sleeps is woken for it, because nothing else may happen for a long time."""
    books.clock.now += 1_000.0
    books.tracker.retry_due()
    books.tracker.look([user_document_id("ann")], Lane.OTHERS, 1)
    offered: list[int] = []
    monkeypatch.setattr(books.tracker._changed, "notify_workers", offered.append)
    ask(books, Wish.FORGET, "ann")
    assert offered == [1]
    books.clock.now += 1_000.0
    assert "ann" in books.serve_all(DONE)
    assert books.tracker.report().looked == 1


def test_one_line_of_the_log_tells_of_many_users_who_wait_for_copies(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have one reason together, and are counted in that line."""
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(failures_module.log, "warning", lambda _event, **more: lines.append(more))
    away = Failure("copies_disagree", "they differ", waits_for=("n3",))
    for number in range(300):
        books.sign_up(f"u{number:03}")
        books.serve(Outcome(failure=away))
    assert len([each for each in lines if "document" in each]) == 100
    (told,) = (each for each in lines if "users" in each)
    assert (told["users"], told["nodes"]) == (101, ("n3",))
    books.clock.now += 60.0
    books.sign_up("another")
    books.serve(Outcome(failure=away))
    assert lines[-1]["users"] == 301


@pytest.mark.parametrize("waits", [False, True])
def test_a_retry_does_not_wait_for_the_rest_of_a_restless_user(books: Books, *, waits: bool) -> None:
    """The operator says that the user is to be tried now, whether or not a change of the user has waited for it."""
    for number in range(6):
        books.sign_up("dan", deleted=number % 2 == 0)
        books.serve_all(Outcome(failure=HELD))
    books.clock.now += 60.0
    books.tracker.retry_due()
    assert "dan" in books.serve_all(Outcome(failure=HELD))
    if waits:
        books.sign_up("dan")
        assert "dan" not in books.serve_all(DONE)
    ask(books, Wish.RETRY, "dan")
    assert "dan" in books.serve_all(DONE)
    assert ask(books, Wish.LIST, "dan") == []
