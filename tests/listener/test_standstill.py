"""The books while the cluster fails: nobody is blamed before a probe has answered, and all wait together on hold."""

import pytest
from structlog.testing import CapturingLogger

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import OF_THE_CLUSTER, UNCONFIRMED, Advice, Failure
from peruserd.listener import failures as failures_module
from peruserd.listener.outcome import Outcome
from tests.listener.disks import WouldBlockError
from tests.listener.set_books import AWAY, DONE, MINE, SEEN, THEIRS, WHY, Books


def test_a_failure_of_the_cluster_is_nobodys_failure(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on disk, one line at the beginning and one at the end, and the checkpoint stays before those who wait."""
    log = CapturingLogger()
    monkeypatch.setattr(failures_module, "log", log)
    books.sign_up("ann", "bob", "cid")
    assert books.serve_all(AWAY) == ["ann", "bob", "cid"]
    assert books.probe(WHY, after=0.1)
    for name in ("dan", "eve"):
        books.sign_up(name)
        assert books.take() is None
    books.probe(WHY)
    report = books.tracker.report()
    assert (report.on_hold, report.quarantined, report.caught_up, report.checkpoint) == (WHY, 0, False, 0)
    assert (report.waiting, report.counters.holds, books.kept) == (5, 1, [])
    books.tracker.save()
    assert books.probe(None)
    assert books.serve_all() == ["eve", "dan", "cid", "bob", "ann"]
    report = books.tracker.report()
    assert (report.on_hold, report.caught_up, report.checkpoint, books.kept) == (None, True, 5, [])
    assert [(call.args[0], call.kwargs) for call in log.calls] == [
        ("on hold: the cluster serves nobody, so no user is tried", {"why": WHY}),
        ("the cluster serves again: all who waited are taken up", {"waited": 5, "seconds": 4.0}),
    ]


def test_a_process_that_dies_on_hold_loses_nobody(books: Books) -> None:
    """Those who waited in memory are read again, because the checkpoint is before them."""
    books.sign_up("ann", "bob")
    books.serve_all(AWAY)
    books.probe(WHY)
    books.tracker.save()
    books.store.close()
    books.begin()
    assert books.tracker.wait_for_room() == 0


def test_who_fails_while_the_cluster_serves_goes_to_quarantine(books: Books) -> None:
    """An enemy whose database answers anything is alone with it: others are served meanwhile."""
    books.sign_up("enemy")
    books.serve(AWAY)
    assert (books.kept, books.tracker.report().checkpoint) == ([], 0)
    books.sign_up("ann")
    assert books.serve(DONE) == "ann"
    assert books.probe(None)
    assert (books.kept, books.tracker.report().checkpoint) == (["enemy"], 2)
    assert books.tracker.report().counters.holds == 0


def test_a_user_who_is_set_aside_and_changes_again_is_tried_again(books: Books) -> None:
    """What is newer has not failed yet; the probe's answer is about what was before."""
    books.sign_up("ann")
    books.serve(AWAY)
    assert books.take() is None
    books.sign_up("ann", deleted=True)
    change = books.take()
    assert change is not None
    assert change.deleted
    assert books.probe(None)
    assert books.kept == []
    books.tracker.give_back(change, DONE)
    assert books.tracker.report().checkpoint == 2


def test_a_user_who_is_set_aside_and_asked_for_is_judged_all_the_same(books: Books) -> None:
    """A look that somebody asks for meanwhile must not leave the user waiting for ever."""
    books.sign_up("ann")
    books.serve(AWAY)
    books.tracker.look([user_document_id("ann")], Lane.AUDIT)
    assert books.probe(None)
    assert books.kept == ["ann"]


@pytest.mark.parametrize("kind", sorted(OF_THE_CLUSTER))
def test_each_kind_that_can_be_the_clusters_waits_for_the_probe(books: Books, kind: str) -> None:
    """Whatever remedy it has."""
    books.sign_up("ann")
    books.serve(Outcome(failure=Failure(kind, "words", Advice.ASK_OPERATOR)))
    assert books.kept == []
    assert books.probe(WHY)
    assert books.tracker.report().on_hold == WHY


@pytest.mark.parametrize(
    "kind", ["conflict", "copies_disagree", "held", "malformed_security", "restless", "unforeseen"]
)
def test_other_kinds_are_a_users_own(books: Books, kind: str) -> None:
    """Nobody is asked, and the user is kept at once."""
    books.sign_up("ann")
    books.serve(Outcome(failure=Failure(kind, "words")))
    assert books.kept == ["ann"]
    assert not books.probe(WHY)


def test_what_is_in_quarantine_for_the_clusters_reason_is_due_when_it_is_back(books: Books) -> None:
    """It is tried at once, the newest first, and what only an operator can change is not."""
    for name, kind in (("old", "no_majority"), ("new", "copies_away"), ("own", "held")):
        books.clock.now += 5.0
        books.sign_up(name)
        books.serve(Outcome(failure=Failure(kind, "words", Advice.ASK_OPERATOR, ("node3",))))
        books.probe(None)
    assert books.kept == ["new", "old", "own"]
    books.sign_up("ann")
    books.serve(AWAY)
    books.probe(WHY)
    assert books.take() is None
    books.probe(None)
    assert books.serve_all() == ["ann", "new", "old"]
    books.tracker.save()
    assert books.kept == ["own"]


def test_on_hold_reading_goes_on_until_the_window_is_full(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who sign up wait in memory; no more of them than ever wait."""
    books.sign_up("ann")
    books.serve(AWAY)
    books.probe(WHY)
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 20)
    for group in range(2):
        assert books.tracker.wait_for_room() is not None
        books.sign_up(*[f"u{group}-{number}" for number in range(10)])
    with pytest.raises(WouldBlockError):
        books.tracker.wait_for_room()


def test_one_user_tries_now_and_then_and_ends_a_hold_that_is_wrong(books: Books) -> None:
    """Only a write that a majority took counts, because a minority can answer what is read."""
    books.sign_up("ann", "bob", "cid", "dan")
    books.serve(AWAY)
    books.probe(WHY)
    assert books.take() is None
    books.probe(WHY, after=6.0)
    assert books.serve(AWAY) == "bob"
    assert books.take() is None
    books.probe(WHY, after=6.0)
    # What shows nothing makes nobody wait.
    assert books.serve(SEEN) == "cid"
    assert books.tracker.report().on_hold == WHY
    assert books.serve(DONE) == "dan"
    assert books.tracker.report().on_hold is None
    assert sorted(books.serve_all()) == ["ann", "bob"]
    books.sign_up("enemy")
    books.serve(AWAY)
    assert books.kept == ["enemy"]
    assert books.probe(WHY)
    assert books.tracker.report().on_hold is None


@pytest.mark.parametrize("resumed", [False, True], ids=["on hold", "after it"])
def test_users_who_are_lost_on_hold_are_their_next_owners(books: Books, resumed: bool) -> None:  # noqa: FBT001
    """Nothing of them waits here, but each deletion is looked at again: the next owner's copy may be behind."""
    books.sign_up("ann")
    books.sign_up("bob", deleted=True)
    books.serve(AWAY)
    books.serve(Outcome(failure=Failure(UNCONFIRMED, "one of three has answered")))
    books.probe(WHY)
    books.sign_up("cid", deleted=True)
    books.sign_up("dan")
    if resumed:
        books.probe(None)
        # Another instance is about to own them, so none is tried any more.
        books.tracker.inform(MINE, THEIRS, 4)
        books.clock.now += 1.0
        books.sign_up("eve", deleted=True)
    books.tracker.inform(THEIRS, None, 4)
    assert books.tracker.report().waiting == 0
    books.probe(None)
    reviews = [books.take(), books.take()]
    assert books.take() is None
    assert {(each.document_id, each.lane, each.deleted) for each in reviews if each is not None} == {
        (user_document_id(name), Lane.REVIEW, False) for name in ("bob", "cid")
    }
    assert books.tracker.report().checkpoint == 5 if resumed else 4


def test_a_listener_that_leaves_is_not_on_hold(books: Books) -> None:
    """What it did last is reviewed, as far as that is possible; nobody here comes back to it."""
    books.sign_up("ann", "bob")
    books.serve(DONE)
    books.serve(AWAY)
    books.probe(WHY)
    assert books.take() is None
    books.tracker.leave()
    change = books.take()
    assert change is not None
    assert change.lane is Lane.REVIEW
    books.tracker.give_back(change, AWAY)
    assert not books.probe(WHY)


def test_where_one_is_served_again_others_of_the_kind_try_before_their_time(books: Books) -> None:
    """Nothing that a probe asks for has failed, so nobody was on hold; the first retry that succeeds shows the end."""
    _spread_late(books)
    failure = Failure("unauthorized", "403 for new databases", Advice.ASK_OPERATOR)
    names = [f"u{number:02}" for number in range(20)]
    books.sign_up(*names)
    books.serve_all(Outcome(failure=failure))
    own = Outcome(failure=Failure("held", "words", Advice.ASK_OPERATOR))
    books.sign_up("own")
    books.serve(own)
    books.probe(None)
    assert books.kept == [*["own"], *names]
    # Before the next tries are due.
    books.clock.now += 0.5
    books.tracker.retry_due()
    assert books.serve_all() == []
    books.sign_up("u00")
    served = books.serve_all()
    assert served[:3] == ["u00", "u01", "u02"]
    assert sorted(served) == names
    books.tracker.save()
    assert books.kept == ["own"]


def test_a_user_who_is_served_in_turns_makes_two_others_try_and_no_more(books: Books) -> None:
    """Those fail again, and nobody else is tried for it."""
    _spread_late(books)
    failing = Outcome(failure=Failure("server_error", "500", Advice.ASK_OPERATOR))
    enemy, *others = [f"u{number:02}" for number in range(20)]
    books.sign_up(enemy, *others)
    books.serve_all(failing)
    books.probe(None)
    books.sign_up(enemy)
    assert books.serve(DONE) == enemy
    assert books.serve_all(failing) == others[:2]


def test_a_new_user_who_is_served_lets_those_try_who_came_before(books: Books) -> None:
    """Whoever signs up first after the end is served, and two tries follow, and so on."""
    _spread_late(books)
    names = [f"u{number:02}" for number in range(10)]
    books.sign_up(*names)
    books.serve_all(Outcome(failure=Failure("unauthorized", "403", Advice.ASK_OPERATOR)))
    books.probe(None)
    books.sign_up("new")
    assert sorted(books.serve_all()) == ["new", *names]


@pytest.mark.parametrize("advice", [Advice.RETRY, Advice.ASK_OPERATOR])
def test_who_fails_last_before_the_cluster_is_back_is_tried_again_within_seconds(books: Books, advice: Advice) -> None:
    """The probe comes too late to see what happened, so the user is kept, but not for as long as a fault of his own."""
    _spread_late(books)
    books.sign_up("ann")
    books.serve(Outcome(failure=Failure("unauthorized", "401", advice)))
    books.probe(None)
    assert books.kept == ["ann"]
    books.clock.now += 1.0
    books.tracker.retry_due()
    assert books.serve_all() == ["ann"]


def _spread_late(books: Books) -> None:
    """Let each next try be near the end of the time in which it can be."""
    failures = books.tracker.failures
    failures._clocks = failures._clocks._replace(chance=lambda: 0.9)
