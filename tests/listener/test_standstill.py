"""The tracker while the cluster fails: nobody is blamed before a probe has answered, and all wait together on hold."""

import pytest
from structlog.testing import CapturingLogger

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.quarantine import OF_THE_CLUSTER, UNCONFIRMED, Advice, Failure
from peruserd.listener import failures as failures_module
from peruserd.listener.outcome import Outcome
from tests.listener.disks import WouldBlockError
from tests.listener.ownerships import DONE, MINE, THEIRS
from tests.listener.stepped_tracker import AWAY, SEEN, WHY, SteppedTracker


def test_a_failure_of_the_cluster_is_nobodys_failure(stepped: SteppedTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes to disk, the log has one line at each end, and the checkpoint stays before the waiting users."""
    log = CapturingLogger()
    monkeypatch.setattr(failures_module, "log", log)
    stepped.sign_up("ann", "bob", "cid")
    assert stepped.serve_all(AWAY) == ["ann", "bob", "cid"]
    assert stepped.probe(WHY, after=0.1)
    for name in ("dan", "eve"):
        stepped.sign_up(name)
        assert stepped.take() is None
    stepped.probe(WHY)
    report = stepped.tracker.report()
    assert (report.on_hold, report.quarantined, report.caught_up, report.checkpoint) == (WHY, 0, False, 0)
    assert (report.waiting, report.counters.holds, stepped.kept) == (5, 1, [])
    stepped.tracker.save()
    assert stepped.probe(None)
    assert stepped.serve_all() == ["eve", "dan", "cid", "bob", "ann"]
    report = stepped.tracker.report()
    assert (report.on_hold, report.caught_up, report.checkpoint, stepped.kept) == (None, True, 5, [])
    assert [(call.args[0], call.kwargs) for call in log.calls] == [
        ("on hold: the cluster serves nobody, so no user is tried", {"why": WHY}),
        ("the cluster serves again: all who waited are taken up", {"waited": 5, "seconds": 4.0}),
    ]


def test_a_process_that_dies_on_hold_loses_nobody(stepped: SteppedTracker) -> None:
    """Users who waited in memory are read again, because the checkpoint is before them."""
    stepped.sign_up("ann", "bob")
    stepped.serve_all(AWAY)
    stepped.probe(WHY)
    stepped.tracker.save()
    stepped.store.close()
    stepped.begin()
    assert stepped.tracker.wait_for_room() == 0


def test_who_fails_while_the_cluster_serves_goes_to_quarantine(stepped: SteppedTracker) -> None:
    """An enemy whose database answers anything stays alone with that failure: others are served meanwhile."""
    stepped.sign_up("enemy")
    stepped.serve(AWAY)
    assert (stepped.kept, stepped.tracker.report().checkpoint) == ([], 0)
    stepped.sign_up("ann")
    assert stepped.serve(DONE) == "ann"
    assert stepped.probe(None)
    assert (stepped.kept, stepped.tracker.report().checkpoint) == (["enemy"], 2)
    assert stepped.tracker.report().counters.holds == 0


def test_a_user_who_is_set_aside_and_changes_again_is_tried_again(stepped: SteppedTracker) -> None:
    """Newer changes have not failed yet; the probe's answer is only about earlier ones."""
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    assert stepped.take() is None
    stepped.sign_up("ann", deleted=True)
    change = stepped.take()
    assert change is not None
    assert change.deleted
    assert stepped.probe(None)
    assert stepped.kept == []
    stepped.tracker.give_back(change, DONE)
    assert stepped.tracker.report().checkpoint == 2


def test_a_user_who_is_set_aside_and_asked_for_is_judged_all_the_same(stepped: SteppedTracker) -> None:
    """A look that somebody asks for meanwhile must not leave the user waiting for ever."""
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    stepped.tracker.look([user_document_id("ann")], Lane.AUDIT)
    assert stepped.probe(None)
    assert stepped.kept == ["ann"]


@pytest.mark.parametrize("kind", sorted(OF_THE_CLUSTER))
def test_each_kind_that_can_be_the_clusters_waits_for_the_probe(stepped: SteppedTracker, kind: str) -> None:
    """This holds for every kind of remedy."""
    stepped.sign_up("ann")
    stepped.serve(Outcome(failure=Failure(kind, "words", Advice.ASK_OPERATOR)))
    assert stepped.kept == []
    assert stepped.probe(WHY)
    assert stepped.tracker.report().on_hold == WHY


@pytest.mark.parametrize(
    "kind", ["conflict", "copies_disagree", "held", "malformed_security", "restless", "unforeseen"]
)
def test_other_kinds_are_a_users_own(stepped: SteppedTracker, kind: str) -> None:
    """Nobody is asked, and the user is kept at once."""
    stepped.sign_up("ann")
    stepped.serve(Outcome(failure=Failure(kind, "words")))
    assert stepped.kept == ["ann"]
    assert not stepped.probe(WHY)


def test_what_is_in_quarantine_for_the_clusters_reason_is_due_when_it_is_back(stepped: SteppedTracker) -> None:
    """Users are tried at once, the newest first, except those who need an operator."""
    for name, kind in (("old", "no_majority"), ("new", "copies_away"), ("own", "held")):
        stepped.clock.now += 5.0
        stepped.sign_up(name)
        stepped.serve(Outcome(failure=Failure(kind, "words", Advice.ASK_OPERATOR, ("node3",))))
        stepped.probe(None)
    assert stepped.kept == ["new", "old", "own"]
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    assert stepped.take() is None
    stepped.probe(None)
    assert stepped.serve_all() == ["ann", "new", "old"]
    stepped.tracker.save()
    assert stepped.kept == ["own"]


def test_on_hold_reading_goes_on_until_the_window_is_full(
    stepped: SteppedTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New users wait in memory, up to the usual limit."""
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    monkeypatch.setattr(intake, "_LIVE_WINDOW", 20)
    for group in range(2):
        assert stepped.tracker.wait_for_room() is not None
        stepped.sign_up(*[f"u{group}-{number}" for number in range(10)])
    with pytest.raises(WouldBlockError):
        stepped.tracker.wait_for_room()


def test_one_user_tries_now_and_then_and_ends_a_hold_that_is_wrong(stepped: SteppedTracker) -> None:
    """Only a write by a majority counts, because a minority can answer reads."""
    stepped.sign_up("ann", "bob", "cid", "dan")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    assert stepped.take() is None
    stepped.probe(WHY, after=6.0)
    assert stepped.serve(AWAY) == "bob"
    assert stepped.take() is None
    stepped.probe(WHY, after=6.0)
    # An outcome without evidence makes nobody wait.
    assert stepped.serve(SEEN) == "cid"
    assert stepped.tracker.report().on_hold == WHY
    assert stepped.serve(DONE) == "dan"
    assert stepped.tracker.report().on_hold is None
    assert sorted(stepped.serve_all()) == ["ann", "bob"]
    stepped.sign_up("enemy")
    stepped.serve(AWAY)
    assert stepped.kept == ["enemy"]
    assert stepped.probe(WHY)
    assert stepped.tracker.report().on_hold is None


@pytest.mark.parametrize("resumed", [False, True], ids=["on hold", "after it"])
def test_users_who_are_lost_on_hold_are_their_next_owners(stepped: SteppedTracker, resumed: bool) -> None:  # noqa: FBT001
    """No change of lost users waits here, but each deletion is reviewed: the next owner's copy may be behind."""
    stepped.sign_up("ann")
    stepped.sign_up("bob", deleted=True)
    stepped.serve(AWAY)
    stepped.serve(Outcome(failure=Failure(UNCONFIRMED, "one of three has answered")))
    stepped.probe(WHY)
    stepped.sign_up("cid", deleted=True)
    stepped.sign_up("dan")
    if resumed:
        stepped.probe(None)
        # Another instance is about to own them, so none is tried any more.
        stepped.tracker.inform(MINE, THEIRS, 4)
        stepped.clock.now += 1.0
        stepped.sign_up("eve", deleted=True)
    stepped.tracker.inform(THEIRS, None, 4)
    assert stepped.tracker.report().waiting == 0
    stepped.probe(None)
    reviews = [stepped.take(), stepped.take()]
    assert stepped.take() is None
    assert {(each.document_id, each.lane, each.deleted) for each in reviews if each is not None} == {
        (user_document_id(name), Lane.REVIEW, False) for name in ("bob", "cid")
    }
    assert stepped.tracker.report().checkpoint == 5 if resumed else 4


def test_a_listener_that_leaves_is_not_on_hold(stepped: SteppedTracker) -> None:
    """The latest work is reviewed as far as possible, because this listener cannot return to it."""
    stepped.sign_up("ann", "bob")
    stepped.serve(DONE)
    stepped.serve(AWAY)
    stepped.probe(WHY)
    assert stepped.take() is None
    stepped.tracker.leave()
    change = stepped.take()
    assert change is not None
    assert change.lane is Lane.REVIEW
    stepped.tracker.give_back(change, AWAY)
    assert not stepped.probe(WHY)


def test_where_one_is_served_again_others_of_the_kind_try_before_their_time(stepped: SteppedTracker) -> None:
    """The probe finds no failure, so nothing was on hold; the first successful retry shows the end."""
    _spread_late(stepped)
    failure = Failure("unauthorized", "403 for new databases", Advice.ASK_OPERATOR)
    names = [f"u{number:02}" for number in range(20)]
    stepped.sign_up(*names)
    stepped.serve_all(Outcome(failure=failure))
    own = Outcome(failure=Failure("held", "words", Advice.ASK_OPERATOR))
    stepped.sign_up("own")
    stepped.serve(own)
    stepped.probe(None)
    assert stepped.kept == [*["own"], *names]
    # Before the next tries are due.
    stepped.clock.now += 0.5
    stepped.tracker.queue_due()
    assert stepped.serve_all() == []
    stepped.sign_up("u00")
    served = stepped.serve_all()
    assert served[:3] == ["u00", "u01", "u02"]
    assert sorted(served) == names
    stepped.tracker.save()
    assert stepped.kept == ["own"]


def test_a_user_who_is_served_in_turns_makes_two_others_try_and_no_more(stepped: SteppedTracker) -> None:
    """The same users fail again, and that causes no trial of others."""
    _spread_late(stepped)
    failing = Outcome(failure=Failure("server_error", "500", Advice.ASK_OPERATOR))
    enemy, *others = [f"u{number:02}" for number in range(20)]
    stepped.sign_up(enemy, *others)
    stepped.serve_all(failing)
    stepped.probe(None)
    stepped.sign_up(enemy)
    assert stepped.serve(DONE) == enemy
    assert stepped.serve_all(failing) == others[:2]


def test_a_new_user_who_is_served_lets_those_try_who_came_before(stepped: SteppedTracker) -> None:
    """The first new user after the end is served, then two are tried, and so on."""
    _spread_late(stepped)
    names = [f"u{number:02}" for number in range(10)]
    stepped.sign_up(*names)
    stepped.serve_all(Outcome(failure=Failure("unauthorized", "403", Advice.ASK_OPERATOR)))
    stepped.probe(None)
    stepped.sign_up("new")
    assert sorted(stepped.serve_all()) == ["new", *names]


@pytest.mark.parametrize("advice", [Advice.RETRY, Advice.ASK_OPERATOR])
def test_who_fails_last_before_the_cluster_is_back_is_tried_again_within_seconds(
    stepped: SteppedTracker, advice: Advice
) -> None:
    """The probe comes too late to see the cause. The user is kept, but for less time than with a fault of his own."""
    _spread_late(stepped)
    stepped.sign_up("ann")
    stepped.serve(Outcome(failure=Failure("unauthorized", "401", advice)))
    stepped.probe(None)
    assert stepped.kept == ["ann"]
    stepped.clock.now += 1.0
    stepped.tracker.queue_due()
    assert stepped.serve_all() == ["ann"]


def _spread_late(stepped: SteppedTracker) -> None:
    """Let each next try be near the end of the time in which it can be."""
    failures = stepped.tracker.failures
    failures._clocks = failures._clocks._replace(chance=lambda: 0.9)
