"""Questions to listeners, with given answers."""

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.users.inquiries import Inquiry, InquiryPage, KeptUser, QuarantineAction
from peruserd.supervisor import questions as module
from peruserd.supervisor.questions import NotAnsweredError, Questions

COPY = Copy("_users", WHOLE_SPACE, "n1", ".1")


def kept(name: str) -> KeptUser:
    """A user in quarantine."""
    return KeptUser(name, False, "held", "words", "ask_operator", 1, 0.0, passing=False)  # noqa: FBT003 - a record


def test_all_pages_are_asked_for() -> None:
    """Each question starts after the last user of the page before, and has its own number."""
    asked: list[Inquiry] = []
    pages = [("a", "b"), ("c",)]

    def answer(copy: Copy, inquiry: Inquiry) -> None:
        assert copy is COPY
        asked.append(inquiry)
        users = tuple(map(kept, pages[len(asked) - 1]))
        questions.answered(COPY, InquiryPage(inquiry.number, users, more=len(asked) < len(pages)))

    questions = Questions(answer)
    found = questions.ask(COPY, Inquiry(0, QuarantineAction.LIST, kind="held"))
    assert [each.document for each in found] == ["a", "b", "c"]
    assert [(each.after, each.kind) for each in asked] == [("", "held"), ("b", "held")]
    assert asked[0].number != asked[1].number


def test_a_listener_that_says_that_there_is_more_and_shows_nothing_is_not_asked_for_ever() -> None:
    """An empty page ends the answer."""
    questions = Questions(lambda _, inquiry: questions.answered(COPY, InquiryPage(inquiry.number, (), more=True)))
    assert list(questions.ask(COPY, Inquiry(0, QuarantineAction.LIST))) == []


def test_a_listener_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    """The error names the copy, and an answer that comes later is dropped."""
    numbers = []
    questions = Questions(lambda _, inquiry: numbers.append(inquiry.number), patience_seconds=0.01)
    with pytest.raises(NotAnsweredError, match="00000000-ffffffff@n1 does not answer"):
        list(questions.ask(COPY, Inquiry(0, QuarantineAction.LIST)))
    questions.answered(COPY, InquiryPage(numbers[0], (kept("late"),)))
    assert questions._open == {}


def test_the_listener_that_keeps_a_user_is_heard() -> None:
    """The other listeners are asked before, and do not have the user."""
    other = Copy("_users", WHOLE_SPACE, "n2", ".1")

    def answer(copy: Copy, inquiry: Inquiry) -> None:
        assert inquiry.document_ids == ("a",)
        questions.answered(copy, InquiryPage(inquiry.number, (kept("a"),) if copy is COPY else ()))

    questions = Questions(answer)
    assert questions.kept([other, COPY], "a") == kept("a")
    assert questions.kept([other], "a") is None
    assert questions.kept([], "a") is None


def test_a_listener_that_owes_answers_is_not_asked_for_ever() -> None:
    """Its pipe must not fill up, because it would be killed. It is asked again once it answers or has a new process."""
    numbers: list[int] = []
    questions = Questions(lambda _, inquiry: numbers.append(inquiry.number), brief_seconds=0.001)
    for _ in range(100):
        assert questions.kept([COPY], "a") is None
    assert len(numbers) == module._MAX_OWED
    with pytest.raises(NotAnsweredError, match="owes 8 answers"):
        list(questions.ask(COPY, Inquiry(0, QuarantineAction.LIST)))
    questions.answered(COPY, InquiryPage(numbers[0], ()))
    questions.kept([COPY], "a")
    assert len(numbers) == module._MAX_OWED + 1
    questions.ended(COPY)
    questions.kept([COPY], "a")
    assert len(numbers) == module._MAX_OWED + 2


def test_answers_that_nobody_asked_for_are_passed_over() -> None:
    """The number belongs to another process, or was never used."""
    questions = Questions(
        lambda _copy, _inquiry: questions.answered(COPY, InquiryPage(77, (kept("a"),))), brief_seconds=0.001
    )
    assert questions.kept([COPY], "a") is None
