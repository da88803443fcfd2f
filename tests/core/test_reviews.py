from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.quarantine import Advice, Failure
from peruserd.core.reviews import Reviews, make_review
from peruserd.core.workqueue import Change, Lane

RECALL = 30.0
FAILED = Failure("no_majority", "no majority")


def _mine(documents: str) -> Callable[[str], bool]:
    """What says of a document whether it is this instance's."""
    return set(documents).__contains__


def _said(changes: list[Change]) -> list[tuple[str, bool]]:
    assert all(change.lane is Lane.REVIEW and change.watermark is None for change in changes)
    return [(change.document_id, change.deleted) for change in changes]


def test_what_was_done_last_is_reviewed_when_its_document_is_lost() -> None:
    """The next owner may have known better already, so what was done is compared with the user document once more."""
    reviews = Reviews((), RECALL)
    reviews.note("a", deleted=False, now=100.0)
    reviews.note("b", deleted=True, now=101.0)
    reviews.note("c", deleted=False, now=102.0)
    lost = reviews.of_lost(_mine("c"), 110.0)
    assert _said(lost) == [("a", False), ("b", True)]
    assert [change.read_at for change in lost] == [110.0, 110.0]


def test_what_was_done_is_reviewed_once() -> None:
    """Another change of owners finds nothing of it; what is still owned can be lost later."""
    reviews = Reviews((), RECALL)
    reviews.note("a", deleted=False, now=0.0)
    reviews.note("b", deleted=False, now=0.0)
    assert _said(reviews.of_lost(_mine("b"), 1.0)) == [("a", False)]
    assert _said(reviews.of_lost(_mine(""), 2.0)) == [("b", False)]
    assert reviews.of_lost(_mine(""), 3.0) == []


def test_what_was_done_long_ago_is_not_reviewed() -> None:
    """Only what two instances can have done at the same time: up to the time for which both can think they own it."""
    reviews = Reviews((), RECALL)
    reviews.note("a", deleted=False, now=100.0)
    reviews.note("b", deleted=False, now=100.1)
    assert _said(reviews.of_lost(_mine(""), 130.1)) == [("b", False)]


def test_the_last_action_on_a_document_counts() -> None:
    """Acted on again, a document has what was done last, and when."""
    reviews = Reviews((), RECALL)
    reviews.note("a", deleted=False, now=100.0)
    reviews.note("b", deleted=False, now=101.0)
    reviews.note("a", deleted=True, now=120.0)
    assert _said(reviews.of_lost(_mine(""), 140.0)) == [("a", True)]


def test_what_is_too_old_is_forgotten() -> None:
    """A listener that acts for months remembers no more than its last moments."""
    reviews = Reviews((), RECALL)
    for number in range(1000):
        reviews.note(f"user-{number}", deleted=False, now=float(number))
    assert len(reviews._acted) == 31


def test_a_doubt_is_reviewed_when_its_document_is_lost() -> None:
    """Whoever began to write a security object writes on until it is whole, whoever owns the document by then."""
    reviews = Reviews(["from-disk"], RECALL)
    reviews.doubt("mine")
    reviews.doubt("lost")
    assert reviews.doubts == {"from-disk", "mine", "lost"}
    assert sorted(_said(reviews.of_lost(lambda document: document == "mine", 1000.0))) == [
        ("from-disk", False),
        ("lost", False),
    ]


def test_a_doubt_is_asked_for_again_until_it_is_settled() -> None:
    """Asking does not settle it; only a security object that is whole does."""
    reviews = Reviews(["a"], RECALL)
    assert _said(reviews.of_lost(_mine(""), 0.0)) == [("a", False)]
    assert reviews.in_doubt("a")
    assert _said(reviews.of_lost(_mine(""), 1.0)) == [("a", False)]
    reviews.settle("a")
    assert not reviews.in_doubt("a")
    assert reviews.of_lost(_mine(""), 2.0) == []
    reviews.settle("a")


def test_one_review_is_enough_for_a_doubt_and_what_was_done() -> None:
    """A document in doubt that was acted on last is reviewed once, about what was done."""
    reviews = Reviews(["a"], RECALL)
    reviews.note("a", deleted=True, now=0.0)
    assert _said(reviews.of_lost(_mine(""), 1.0)) == [("a", True)]


def test_a_review_that_failed_is_tried_again() -> None:
    """After a growing while, with what it was about; the one that succeeds is not."""
    reviews = Reviews((), RECALL)
    assert reviews.next_due() is None
    change = make_review("a", deleted=True, now=0.0)
    reviews.fail(change, FAILED, now=10.0, chance=0.5)
    assert reviews.next_due() == 10.5
    assert reviews.take_due(10.4) == []
    (again,) = reviews.take_due(10.5)
    assert (again.document_id, again.deleted, again.lane, again.read_at) == ("a", True, Lane.REVIEW, 10.5)
    reviews.fail(again, FAILED, now=20.0, chance=0.5)
    assert reviews.next_due() == 21.0
    reviews.succeed(again)
    assert reviews.take_due(1000.0) == []


def test_a_review_that_cannot_succeed_is_given_up() -> None:
    """A failure that nothing helps against is not tried for ever."""
    reviews = Reviews((), RECALL)
    given_up = Failure("name", "no database can have this name", Advice.GIVE_UP)
    reviews.fail(make_review("a", deleted=False, now=0.0), given_up, now=0.0, chance=0.5)
    assert reviews.next_due() is None
    assert reviews.take_due(1e9) == []


@given(
    acts=st.lists(st.tuples(st.floats(0.0, 20.0), st.sampled_from("abcd"), st.booleans()), max_size=20),
    mine=st.sets(st.sampled_from("abcd")),
    later=st.floats(0.0, 40.0),
)
def test_exactly_the_last_moments_of_what_was_lost_are_reviewed(
    acts: list[tuple[float, str, bool]], mine: set[str], later: float
) -> None:
    """Whatever was done in whatever order: the newest act of each lost document, if it is not too long ago."""
    reviews = Reviews((), RECALL)
    newest: dict[str, tuple[bool, float]] = {}
    now = 0.0
    for pause, document, deleted in acts:
        now += pause
        reviews.note(document, deleted=deleted, now=now)
        newest[document] = (deleted, now)
    now += later
    expected = {
        (document, deleted) for document, (deleted, at) in newest.items() if document not in mine and now - at <= RECALL
    }
    assert set(_said(reviews.of_lost(mine.__contains__, now))) == expected
