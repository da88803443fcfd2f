"""Questions to listeners whether they keep a user in quarantine, with processes that only take notes."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from peruserd.core.hashing import document_hash
from peruserd.core.messages import Inquire, Kept, ToListener
from peruserd.core.names import user_document_id
from peruserd.core.quarantine import Failure
from peruserd.core.ranges import WHOLE_SPACE, split_evenly
from peruserd.core.views import Copy
from peruserd.supervisor import inquiries as module
from peruserd.supervisor.inquiries import Inquiries

LOWER, UPPER = split_evenly(2)
ALICE = user_document_id("alice")
FAILURE = Failure("held", "…")


def _listener(pid: int, covered: Any = WHOLE_SPACE) -> Any:
    sent: list[ToListener] = []
    return SimpleNamespace(
        copy=Copy("_users", covered, "n1", ".1"), process=SimpleNamespace(pid=pid, send=sent.append, sent=sent)
    )


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long for an answer that does not come."""
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)


def test_only_the_listeners_of_the_range_are_asked_and_the_answer_comes_back() -> None:
    """Each question has a number of its own, and the answer carries it."""
    inquiries = Inquiries()
    holder, other = (LOWER, UPPER) if document_hash(ALICE) in LOWER else (UPPER, LOWER)
    holds, holds_not = _listener(1, holder), _listener(2, other)
    first, second = (inquiries.ask(ALICE, [holds, holds_not]) for _ in range(2))
    assert holds.process.sent == [Inquire(1, ALICE), Inquire(2, ALICE)]
    assert holds_not.process.sent == []
    inquiries.answer(1, Kept(2, FAILURE))
    inquiries.answer(1, Kept(1, None))
    assert (first.wait(), second.wait()) == (None, FAILURE)


def test_somebody_who_waits_hears_the_answer_at_once() -> None:
    """The answer comes in another thread, which is the loop's."""
    inquiries = Inquiries()
    inquiry = inquiries.ask(ALICE, [_listener(1), _listener(2)])
    answers: list[Failure | None] = []
    thread = threading.Thread(target=lambda: answers.append(inquiry.wait()))
    thread.start()
    inquiries.answer(1, Kept(1, FAILURE))
    thread.join()
    assert answers == [FAILURE]


@pytest.mark.usefixtures("hasty")
def test_answers_that_nobody_asked_for_are_passed_over() -> None:
    """A process that was started anew, or one that says a number of its own."""
    inquiries = Inquiries()
    inquiry = inquiries.ask(ALICE, [_listener(1)])
    inquiries.answer(2, Kept(1, FAILURE))
    inquiries.answer(1, Kept(7, FAILURE))
    assert inquiry.wait() is None


@pytest.mark.usefixtures("hasty")
def test_a_listener_that_does_not_answer_is_not_asked_for_ever() -> None:
    """Its pipe must not fill, because it would be killed; once it answers it is asked again."""
    inquiries = Inquiries()
    listener = _listener(1)
    for _ in range(100):
        assert inquiries.ask(ALICE, [listener]).wait() is None
    assert len(listener.process.sent) == module._MOST_OWED
    inquiries.answer(1, Kept(1, None))
    inquiries.ask(ALICE, [listener])
    assert len(listener.process.sent) == module._MOST_OWED + 1
    anew = _listener(2)
    inquiries.ask(ALICE, [anew])
    assert anew.process.sent
    assert list(inquiries._open) == [2]


def test_nobody_waits_where_nobody_is_asked() -> None:
    """An instance without a listener of the range has no quarantine of it."""
    assert Inquiries().ask(ALICE, []).wait() is None
    gone = _listener(1)
    gone.process = None
    assert Inquiries().ask(ALICE, [gone]).wait() is None
