"""What a report says about waiting: since when the oldest change waits, and when the feed was last read."""

from peruserd.core.scheduling.restless import MAX_CHANGES
from tests.listener.ownerships import DONE
from tests.listener.stepped_tracker import AWAY, WHY, SteppedTracker


def test_the_oldest_change_that_waits_is_reported_whoever_is_served_first(stepped: SteppedTracker) -> None:
    """Changes that end before it do not matter; without any there is no time."""
    assert stepped.tracker.report().oldest_waiting_since is None
    begun = stepped.clock.now
    stepped.sign_up("ann")
    first = stepped.take()
    stepped.clock.now += 5.0
    stepped.sign_up("bob")
    assert stepped.serve(DONE) == "bob"
    report = stepped.tracker.report()
    assert (report.oldest_waiting_since, report.read_at) == (begun, begun + 5.0)
    assert first is not None
    stepped.tracker.give_back(first, DONE)
    assert stepped.tracker.report().oldest_waiting_since is None


def test_users_wait_while_the_cluster_serves_nobody_and_not_in_quarantine(stepped: SteppedTracker) -> None:
    """On hold the time goes on; a user whose failure is on disk waits for a try, and is counted there."""
    begun = stepped.clock.now
    stepped.sign_up("ann")
    stepped.serve(AWAY)
    stepped.probe(WHY)
    report = stepped.tracker.report()
    assert (report.oldest_waiting_since, report.hold_kind) == (begun, "no_majority")
    assert stepped.probe(None)
    assert stepped.tracker.report().hold_kind is None
    stepped.serve(AWAY)
    stepped.probe(None)
    report = stepped.tracker.report()
    assert report.oldest_waiting_since is None
    assert report.kinds == {"no_majority": 1}
    assert report.oldest_kept_since is not None


def test_who_changes_too_often_does_not_make_others_seem_slow(stepped: SteppedTracker) -> None:
    """Such a user rests for a minute each time, and anybody can do that on purpose."""
    for turn in range(MAX_CHANGES):
        stepped.sign_up("eve", deleted=turn % 2 == 0)
        stepped.serve(DONE)
        stepped.clock.now += 1.0
    counted = sum(stepped.tracker.report().counters.latency.buckets)
    stepped.sign_up("eve", deleted=MAX_CHANGES % 2 == 0)
    assert stepped.take() is None
    stepped.clock.now += 60.0
    stepped.tracker.queue_due()
    assert stepped.serve(DONE) == "eve"
    stepped.sign_up("ann")
    assert stepped.serve(DONE) == "ann"
    latency = stepped.tracker.report().counters.latency
    assert sum(latency.buckets) == counted + 1
    assert latency.sum_seconds < 1.0
