"""The cluster watch, with readings whose results are given."""

import time

import pytest

from peruserd.core.cluster.views import View
from peruserd.core.common.backoff import Backoff
from peruserd.couch.errors import RefusedError, RejectedError, ServerError, UnauthorizedError, UnreachableError
from peruserd.supervisor import pausing
from peruserd.supervisor.cluster_watch import ClusterWatch
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_at_least


class Readings:
    """A cluster reader whose answers are given: a view, or an error to raise."""

    def __init__(self, *script: View | Exception) -> None:
        self._script = list(script)
        self.count = 0

    def read(self) -> View:
        """Return or raise the next item; the last one is repeated."""
        self.count += 1
        item = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(item, Exception):
            raise item
        return item


VIEW = View(nodes=("n1",), instances=("n1",), shard_map=None)


def watch_of(readings: Readings, seen: list[View | None], interval_seconds: float = 0.01) -> ClusterWatch:
    """Make a cluster watch that notes each view, and None for each failed reading."""
    return ClusterWatch(
        readings.read, interval_seconds=interval_seconds, on_view=seen.append, on_failure=lambda: seen.append(None)
    )


@pytest.mark.parametrize("error", [UnreachableError("away"), ValueError("what nobody foresaw")], ids=repr)
def test_a_cluster_watch_passes_on_what_it_sees_after_failures(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed reading, for any reason, the next one follows. Meanwhile there is no new view."""
    for name in ("_AWAY", "_BACKOFF"):
        monkeypatch.setattr(pausing, name, Backoff(initial_seconds=0.01, max_seconds=0.01))
    seen: list[View | None] = []
    watch = watch_of(Readings(error, VIEW), seen)
    watch.start()
    eventually(lambda: len(seen) >= 3)
    watch.stop()
    assert [each is VIEW for each in seen[:3]] == [False, True, True]
    assert watch.failures == 0
    assert watch.trouble is None


@pytest.mark.parametrize("error", [UnauthorizedError("no"), RejectedError("no")], ids=repr)
def test_a_page_that_was_closed_for_a_moment_is_asked_for_again_soon(error: Exception) -> None:
    """A proxy may refuse once during a reload. If a page stays closed, the pauses grow."""
    pauses = [pausing.Pauses().after(error, failures) for failures in range(1, 10)]
    assert pauses[0] <= 1
    assert sum(pauses[:4]) <= 15
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15


def test_a_server_that_was_away_for_long_is_seen_soon_after_its_return() -> None:
    """It may answer with errors while it starts, and these are the first failures of a server that is there."""
    pauses = pausing.Pauses()
    while_away = {pauses.after(UnreachableError("away"), failures) for failures in range(1, 400)}
    assert max(while_away) == 2.0
    starting = [pauses.after(ServerError("starting"), failures) for failures in range(400, 406)]
    assert starting == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert [pauses.after(ServerError("later"), failures) for failures in (1, 2)] == [1.0, 2.0]


def test_a_cluster_watch_that_is_refused_does_not_hammer_the_server() -> None:
    """Usually a person opens a closed path, so the next reading is not at once."""
    readings = Readings(UnauthorizedError("no"))
    watch = watch_of(readings, [], 0.001)
    assert watch.trouble is None
    watch.start()
    eventually(lambda: watch.failures == 1)
    assert watch.trouble == "no"
    time.sleep(0.1)
    watch.stop()
    assert readings.count == 1


def test_a_cluster_watch_that_is_not_let_in_looks_soon_whether_it_is() -> None:
    """While it is not let in no request is sent, so it may try often. The next view is passed on."""
    seen: list[View | None] = []
    watch = watch_of(Readings(RefusedError("no"), VIEW), seen, 0.001)
    watch.start()
    eventually(lambda: VIEW in seen)
    watch.stop()
    assert pausing.Pauses().after(RefusedError("no"), 1000) == 1.0
    assert pausing.Pauses().after(UnauthorizedError("401 for a while"), 1000) == 15.0


def test_a_look_that_is_asked_for_does_not_wait_for_the_interval() -> None:
    """A change has come, long before the next reading is due."""
    seen: list[View | None] = []
    watch = watch_of(Readings(VIEW), seen, 3600.0)
    watch.start()
    for count in (1, 2, 3):
        eventually_at_least(count, lambda: len(seen))
        assert len(seen) == count
        watch.read_soon()
    eventually(lambda: len(seen) == 4)
    watch.stop()
    assert watch._task.ends_within(PATIENCE_SECONDS)


def test_looks_that_fail_are_not_asked_for_sooner() -> None:
    """Listeners lose their copies also if the server refuses us, and more requests could lock the account."""
    watch = watch_of(Readings(VIEW), [], 1.0)
    watch._failed("unauthorized", UnauthorizedError("no"))
    watch.read_soon()
    assert not watch._task.is_wanted
