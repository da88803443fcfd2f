"""A wrong hold, or one that an enemy tries to prolong: the users who are tried meanwhile, and the enemy's power."""

import pytest

from peruserd.core.users.quarantine import Advice, Failure
from peruserd.listener.outcome import Outcome
from tests.listener.ownerships import DONE
from tests.listener.stepped_tracker import AWAY, SEEN, WHY, SteppedTracker

ENEMIES = [f"enemy{number}" for number in range(20)]

OWN = Outcome(failure=Failure("template_refused", "the database refuses it", Advice.GIVE_UP))


@pytest.mark.parametrize("answer", [AWAY, OWN, SEEN], ids=["like the cluster", "his own", "nothing to write"])
def test_an_enemy_who_changes_all_the_time_is_not_the_only_one_who_tries(
    stepped: SteppedTracker, answer: Outcome
) -> None:
    """The enemy's document changes at each look, and his database answers anything; others are tried as well."""
    stepped.sign_up("enemy")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    stepped.sign_up("ann", "bob")
    tried = []
    for _ in range(6):
        stepped.probe(WHY, after=6.0)
        while stepped.tracker.report().on_hold is not None and (change := stepped.take()) is not None:
            user = change.document_id.removeprefix("org.couchdb.user:")
            tried.append(user)
            if user == "enemy":
                stepped.sign_up("enemy")
            stepped.tracker.give_back(change, answer if user == "enemy" else DONE)
            assert len(tried) < 10, "the enemy tries again and again"
        if stepped.tracker.report().on_hold is None:
            break
    assert tried[-1] == "ann"
    assert stepped.tracker.report().on_hold is None


def hold(stepped: SteppedTracker, *names: str) -> None:
    """Let these users fail, and the probe."""
    stepped.sign_up(*names)
    stepped.serve_all(AWAY)
    stepped.probe(WHY)
    assert stepped.tracker.report().on_hold == WHY


def test_twenty_enemies_before_an_honest_user_keep_up_no_hold(stepped: SteppedTracker) -> None:
    """More try each time, and each of them once, so the honest one comes after seconds."""
    hold(stepped, *ENEMIES)
    stepped.sign_up("ann")
    began = stepped.clock.now
    while stepped.tracker.report().on_hold is not None:
        stepped.probe(WHY, after=1.3)
        while (change := stepped.take()) is not None:
            user = change.document_id.removeprefix("org.couchdb.user:")
            if user != "ann":
                stepped.sign_up(user)
            stepped.tracker.give_back(change, DONE if user == "ann" else AWAY)
            if user == "ann":
                break
        assert stepped.clock.now - began < 29.0
    assert sorted(stepped.serve_all()) == sorted(ENEMIES)
    assert stepped.tracker.report().checkpoint == stepped.tracker.wait_for_room()


def test_enemies_whose_databases_hang_keep_nobody_from_trying(stepped: SteppedTracker) -> None:
    """Their trials last as long as a request may take; other trials begin meanwhile."""
    hold(stepped, *ENEMIES[:2])
    hanging = []
    for _ in range(2):
        stepped.probe(WHY, after=6.0)
        while (change := stepped.take()) is not None:
            hanging.append(change)
        stepped.sign_up("ann")
    assert len(hanging) == 3
    assert hanging[2].document_id.endswith(":ann")
    stepped.tracker.give_back(hanging[2], DONE)
    assert stepped.tracker.report().on_hold is None
    for change in hanging[:2]:
        stepped.tracker.give_back(change, AWAY)
    assert stepped.kept == ENEMIES[:2]


def test_one_who_has_tried_tries_again_where_nobody_else_waits(stepped: SteppedTracker) -> None:
    """A hold that is wrong ends, although nobody signs up."""
    hold(stepped, "ann")
    for _ in range(5):
        stepped.probe(WHY, after=6.0)
        if (change := stepped.take()) is not None:
            stepped.tracker.give_back(change, AWAY)
            assert stepped.take() is None
    stepped.probe(WHY, after=6.0)
    assert stepped.serve(DONE) == "ann"
    assert stepped.tracker.report().on_hold is None


def test_whatever_enemies_answer_a_probe_that_succeeds_ends_a_hold(stepped: SteppedTracker) -> None:
    """All who have tried are taken up with all others, the newest first."""
    hold(stepped, "enemy", "ann")
    for _ in range(3):
        stepped.probe(WHY, after=6.0)
        for _ in range(2):
            if (change := stepped.take()) is not None:
                stepped.sign_up(change.document_id.removeprefix("org.couchdb.user:"))
                stepped.tracker.give_back(change, AWAY)
    stepped.sign_up("bob")
    stepped.probe(None)
    served = stepped.serve_all()
    assert served[0] == "bob"
    assert sorted(served) == ["ann", "bob", "enemy"]
    report = stepped.tracker.report()
    assert (report.on_hold, report.waiting, report.checkpoint) == (None, 0, stepped.tracker.wait_for_room())


def test_an_outage_after_a_wrong_hold_fills_the_quarantine_for_seconds(stepped: SteppedTracker) -> None:
    """The probe is not believed at first. Then everybody waits, and users in quarantine return with the others."""
    hold(stepped, "ann")
    stepped.probe(WHY, after=6.0)
    stepped.serve(DONE)
    outage: list[str] = []
    while stepped.tracker.report().on_hold is None:
        outage.append(f"u{len(outage)}")
        stepped.sign_up(outage[-1])
        stepped.tracker.queue_due()
        stepped.serve_all(AWAY)
        stepped.probe(WHY, after=0.5)
    assert len(stepped.kept) <= 21
    stepped.probe(None)
    assert set(stepped.serve_all()) == set(outage)
    stepped.tracker.save()
    assert stepped.kept == []
