import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, MutableMapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.views import Assignment, Feed, View, make_plan
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.names import user_document_id
from peruserd.core.feed.progress import Identity, SavedProgress
from peruserd.core.feed.rows import PAGE_ROWS, Leaf, Page, Row, Sequence
from peruserd.core.processes.messages import Report, Stage
from peruserd.core.users.quarantine import Advice
from peruserd.couch import errors
from peruserd.couch.sources import ChangeSource, open_source
from peruserd.listener import feed
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.feed import CopyReplacedError, Follower, Persistence, Scanner, Stopped
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import Store
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.states import MINE
from tests.listener.trackers import make_tracker
from tests.waiting import PATIENCE_SECONDS, eventually

REAL_WAITS = feed._BACKOFF

Logged = list[MutableMapping[str, Any]]

# Making a request until it succeeds


class Pauses:
    """A substitute for the stop event: it records the waiting times, and is set after so many waits."""

    def __init__(self, stop_after: int = 1_000) -> None:
        self.seconds: list[float] = []
        self._stop_after = stop_after

    def wait(self, seconds: float) -> bool:
        """Do not wait."""
        self.seconds.append(seconds)
        return len(self.seconds) >= self._stop_after


class Failing:
    """A request that fails so many times, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self, answer: str = "answer") -> str:
        """Fail, or answer."""
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return answer


def _persistence(pauses: Pauses | threading.Event, kinds: list[str] | None = None) -> Persistence:
    return Persistence(cast("threading.Event", pauses), (kinds if kinds is not None else []).append)


def test_a_request_is_made_until_it_succeeds() -> None:
    """The answer comes in the end, after any trouble of the server, and each failure is reported by its kind."""
    kinds: list[str] = []
    request = Failing(errors.UnreachableError(""), errors.TimedOutError(""), errors.NotFoundError("", "missing"))
    assert _persistence(Pauses(), kinds).call(request, answer="this") == "this"
    assert kinds == ["unreachable", "timeout", "not_found"]


def test_waits_grow_and_begin_anew_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure in a row doubles the bound of the wait, up to some seconds; a success ends the row."""
    monkeypatch.setattr(feed, "_BACKOFF", REAL_WAITS)
    monkeypatch.setattr(random, "random", lambda: 0.5)
    pauses = Pauses()
    persistence = _persistence(pauses)
    for _ in range(2):
        persistence.call(Failing(*[errors.UnreachableError("")] * 10))
    first, second = pauses.seconds[:10], pauses.seconds[10:]
    assert first == second
    assert first[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert all(later >= earlier for earlier, later in pairwise(first))
    assert first[-1] == 2.5


def test_a_path_that_was_closed_is_read_soon_after_it_is_open_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy or a removed role closes the feed for minutes, and all new users wait for it."""
    monkeypatch.setattr(feed, "_BACKOFF", REAL_WAITS)
    monkeypatch.setattr(random, "random", lambda: 0.5)
    pauses = Pauses()
    _persistence(pauses).call(Failing(*[errors.UnauthorizedError("")] * 10))
    assert pauses.seconds[:3] == [0.5, 1.0, 2.0]
    assert pauses.seconds[-1] == 7.5


def test_every_advice_has_its_wait() -> None:
    """The feed waits for the end of any error."""
    assert set(REAL_WAITS) == set(Advice)


def test_stopping_ends_a_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that stops does not wait for the next try, and asks nothing more."""
    monkeypatch.setattr(feed, "_BACKOFF", REAL_WAITS)
    stopping = threading.Event()
    request = Failing(*[errors.UnauthorizedError("")] * 2)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            _persistence(stopping).call(request)
        except Stopped as end:
            ended.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: request.calls, "it has failed once")
    stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert len(ended) == 1
    assert request.calls == 1


def test_an_interrupted_request_is_the_end() -> None:
    """A request that was interrupted by this side is no failure: nothing waits and nothing is counted."""
    pauses = Pauses()
    kinds: list[str] = []
    with pytest.raises(Stopped):
        _persistence(pauses, kinds).call(Failing(errors.InterruptedRequestError("")))
    assert (pauses.seconds, kinds) == ([], [])


def test_an_error_that_is_no_answer_is_not_repeated() -> None:
    """An unforeseen error is raised."""
    with pytest.raises(ZeroDivisionError):
        _persistence(Pauses()).call(Failing(ZeroDivisionError()))


# Following


class ScriptedSource:
    """A source with scripted answers; at the end of its script it sets the stop event."""

    def __init__(
        self,
        tracker: ChangeTracker,
        identities: list[Identity],
        pages: list[Page | Exception],
        *,
        newest: Row | None = None,
        lost: Container[Row] = (),
        silent: Collection[bool] = (),
    ) -> None:
        self._tracker = tracker
        # For each question for the history, whether it fails; the last value holds for all later questions.
        self._silent = list(silent)
        self.questions = 0
        self._newest = newest
        self._lost = lost
        self.identities = identities
        self._pages = pages
        self.asked: list[tuple[str, Sequence]] = []

    def identify(self) -> Identity:
        """Give the next identity; the last one again and again."""
        return self.identities.pop(0) if len(self.identities) > 1 else self.identities[0]

    def page(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Give the next page."""
        return self._answer("page", since, limit)

    def poll(self, since: Sequence, limit: int = PAGE_ROWS) -> Page:
        """Give the next page."""
        return self._answer("poll", since, limit)

    def recent(self) -> list[Row]:
        """Give the newest row."""
        return [] if self._newest is None else [self._newest]

    def has(self, *rows: Row) -> bool:
        """Say whether the rows are a part of the history, or fail."""
        self.questions += 1
        if self._silent and (self._silent.pop(0) if len(self._silent) > 1 else self._silent[0]):
            raise errors.ForbiddenError("")
        return not any(row in self._lost for row in rows)

    def interrupt(self) -> None:
        """Nothing hangs."""

    def _answer(self, how: str, since: Sequence, limit: int) -> Page:
        assert limit == PAGE_ROWS
        self.asked.append((how, since))
        if not self._pages:
            raise errors.InterruptedRequestError("the end")
        answer = self._pages.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A state file."""
    made = Store.open(tmp_path / "copy.sqlite")
    yield made
    made.close()


@pytest.fixture
def tracker(store: Store) -> ChangeTracker:
    """A tracker that owns everything."""
    return make_tracker(ownership=MINE, share=1, store=store)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses after failures."""
    monkeypatch.setattr(feed, "_BACKOFF", dict.fromkeys(Advice, Backoff(0.01, 0.05)))
    for name in ("_POLLS_APART", "_QUESTIONS_APART"):
        monkeypatch.setattr(feed, name, Backoff(0.01, 0.05))


@pytest.fixture
def logged() -> Iterator[Logged]:
    """The lines of the log."""
    with capture_logs() as lines:
        yield lines


def _page(first: int, last: int) -> Page:
    return Page([Row(seq, user_document_id(str(seq))) for seq in range(first, last + 1)], last)


def _follow(tracker: ChangeTracker, identities: list[Identity], pages: list[Page | Exception]) -> ScriptedSource:
    source = ScriptedSource(tracker, identities, pages)
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    return source


def test_a_backlog_is_read_by_pages_and_the_tail_by_polls(tracker: ChangeTracker) -> None:
    """Full pages are read one after the other; the first page that is not full is the end, and polling begins there."""
    full, rest = _page(1, PAGE_ROWS), _page(PAGE_ROWS + 1, PAGE_ROWS + 3)
    source = _follow(
        tracker, [Identity("copy", 0), Identity("copy", 1003)], [full, rest, Page([], 1003), _page(1004, 1004)]
    )
    assert source.asked == [("page", 0), ("page", 1000), ("poll", 1003), ("poll", 1003), ("poll", 1004)]


def test_many_changes_at_once_are_a_backlog_again(tracker: ChangeTracker) -> None:
    """After a full poll comes a page without waiting."""
    source = _follow(tracker, [Identity("copy", 0)], [Page([], 0), _page(1, PAGE_ROWS), _page(1001, 1001)])
    assert source.asked == [("page", 0), ("poll", 0), ("page", 1000), ("poll", 1001)]


def test_the_follower_rests_after_single_changes_only(tracker: ChangeTracker) -> None:
    """The pause comes only before a poll. A backlog is read without a pause, and so are changes that come in crowds."""
    full, pauses = _page(1, PAGE_ROWS), Pauses()
    pages: list[Page | Exception] = [full, _page(1001, 1001), Page([], 1001), _page(1002, 1003), _page(1004, 1004)]
    source = ScriptedSource(tracker, [Identity("copy", 0), Identity("copy", 1001)], pages)
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, cast("threading.Event", pauses)).run()
    assert source.asked == [("page", 0), ("page", 1000), ("poll", 1001), ("poll", 1001), ("poll", 1003), ("poll", 1004)]
    assert pauses.seconds == [feed._REST_SECONDS] * 2


def test_stopping_ends_a_rest_at_once(tracker: ChangeTracker) -> None:
    """A stopped follower makes no more requests, and its stop is no error."""
    source = ScriptedSource(tracker, [Identity("copy", 0)], [_page(1, 1)])
    Follower(cast("ChangeSource", source), tracker, cast("threading.Event", Pauses(stop_after=1))).run()
    assert source.asked == [("page", 0)]


def test_after_a_failure_nobody_waits_for_a_poll_to_end(tracker: ChangeTracker) -> None:
    """It is known at once whether the feed is readable and of the same copy, not only after a quiet long poll."""
    pages: list[Page | Exception] = [Page([], 0), errors.UnreachableError(""), Page([], 0), Page([], 0)]
    source = _follow(tracker, [Identity("copy", 0)], pages)
    assert [how for how, _ in source.asked] == ["page", "poll", "page", "poll", "poll"]


@pytest.mark.parametrize(
    ("now", "pages"),
    [
        (Identity("other", 9), [_page(6, 7), Page([], 7)]),
        (Identity("copy", 6), [_page(6, 7), Page([], 7)]),
        (Identity("other", 9), [errors.UnreachableError(""), _page(6, 7)]),
    ],
    ids=["another-copy-and-nothing", "behind-and-nothing", "another-copy-after-a-failure"],
)
def test_a_copy_that_was_replaced_is_not_believed(
    tracker: ChangeTracker, now: Identity, pages: list[Page | Exception]
) -> None:
    """After an empty page or a failure the copy is confirmed, because a stale sequence would silently skip rows."""
    source = ScriptedSource(tracker, [Identity("copy", 5), now], pages)
    with pytest.raises(CopyReplacedError):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()


def test_a_copy_replaced_under_steady_traffic_is_noticed(
    tracker: ChangeTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a feed that is never empty the copy is confirmed now and then too."""
    monkeypatch.setattr(feed, "_CONFIRM_SECONDS", 0.0)
    pages: list[Page | Exception] = [_page(seq, seq) for seq in range(6, 20)]
    source = ScriptedSource(tracker, [Identity("copy", 5), Identity("copy", 9), Identity("other", 99)], pages)
    with pytest.raises(CopyReplacedError):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert tracker.report().counters.changes_seen == 1


def test_a_page_of_a_replaced_copy_is_not_entered(tracker: ChangeTracker) -> None:
    """A page after a failure is looked at only once the copy is known to be the same."""
    source = ScriptedSource(
        tracker, [Identity("copy", 5), Identity("other", 9)], [errors.UnreachableError(""), _page(6, 7)]
    )
    with pytest.raises(CopyReplacedError):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert tracker.report().counters.changes_seen == 0


def test_files_that_were_put_back_while_a_feed_was_read_are_noticed(tracker: ChangeTracker) -> None:
    """A restore stopped the node, so the feed broke. The copy keeps its identity, and has lost rows that were read."""
    lost = _page(6, 7)
    pages: list[Page | Exception] = [lost, errors.UnreachableError(""), _page(8, 9)]
    source = ScriptedSource(tracker, [Identity("copy", 9)], pages, lost=lost.results)
    with pytest.raises(CopyReplacedError, match="another history"):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert tracker.report().counters.changes_seen == 2


def _row_of(seq: int, name: str = "ann") -> Row:
    return Row(seq, user_document_id(name), changes=(Leaf(f"{seq}-a"),))


@pytest.mark.parametrize(
    "pages",
    [[errors.UnreachableError(""), _page(10, 12)], [Page([], 7)]],
    ids=["after a failure", "behind a proxy that hides the failure"],
)
def test_files_that_were_put_back_under_a_quiet_feed_are_noticed(store: Store, pages: list[Page | Exception]) -> None:
    """No row was read since the start, so the row at the checkpoint is the proof."""
    store.save(SavedProgress("copy", 7, MINE, covered=(MINE,), last_row=_row_of(7)))
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    identities = [Identity("copy", 7), Identity("copy", 12)]
    source = ScriptedSource(tracker, identities, list(pages), newest=_row_of(7), lost=[_row_of(7)])
    with pytest.raises(CopyReplacedError, match="another history"):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert tracker.report().counters.changes_seen == 0


def test_a_copy_that_does_not_tell_its_history_at_the_start_is_scanned(store: Store, logged: Logged) -> None:
    """A proxy may refuse this one question for ever, and nobody would be served until it is answered."""
    store.save(SavedProgress("copy", 7, MINE, covered=(MINE,), last_row=_row_of(7)))
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    source = ScriptedSource(tracker, [Identity("copy", 9)], [_page(10, 11)], newest=_row_of(9, "bob"), silent=[True])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert [how for how, _ in source.asked] == ["page", "poll"]
    assert tracker.report().stage is Stage.SCANNING
    assert [each["why"] for each in logged if each["event"] == "following"] == [
        "it cannot be found out whether the copy has the row at the checkpoint"
    ]


def test_a_question_for_the_history_that_fails_once_costs_no_scan(store: Store) -> None:
    """A node that is about to restart fails one request, and its copy answers the second one."""
    store.save(SavedProgress("copy", 7, MINE, covered=(MINE,), last_row=_row_of(7)))
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    source = ScriptedSource(tracker, [Identity("copy", 9)], [], newest=_row_of(9, "bob"), silent=[True, False])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert source.asked == [("page", 7)]


def test_a_copy_that_does_not_tell_its_history_is_followed_on(tracker: ChangeTracker, logged: Logged) -> None:
    """The log says that once, each poll asks at most once more, and rows arrive as usual."""
    pages: list[Page | Exception] = [_page(6, 7), Page([], 7), Page([], 7), Page([], 7), _page(8, 9)]
    source = ScriptedSource(tracker, [Identity("copy", 7)], pages, silent=[True])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert tracker.report().counters.changes_seen == 4
    assert source.questions == feed._MAX_QUESTIONS + 2
    assert len([each for each in logged if "does not tell" in each["event"]]) == 1


def test_what_was_read_while_a_copy_did_not_tell_its_history_proves_nothing(tracker: ChangeTracker) -> None:
    """The copy may have been restored meanwhile, and then the rows since belong to the other history."""
    before = _page(6, 7)
    pages: list[Page | Exception] = [before, Page([], 7), _page(8, 9), Page([], 9)]
    silent = [True] * feed._MAX_QUESTIONS + [False]
    source = ScriptedSource(tracker, [Identity("copy", 7)], pages, lost=before.results, silent=silent)
    source.identities = [Identity("copy", 7)] * (feed._MAX_QUESTIONS + 1) + [Identity("copy", 9)]
    with pytest.raises(CopyReplacedError, match="another history"):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()


def test_polls_that_break_are_made_ever_more_slowly_and_told_of_once(tracker: ChangeTracker, logged: Logged) -> None:
    """Pages can be read all the time, so without a limit the copy's identity would be asked many times a second."""
    pauses = Pauses()
    pages: list[Page | Exception] = [Page([], 0)]
    pages += [errors.GatewayError(""), Page([], 0)] * 6
    source = ScriptedSource(tracker, [Identity("copy", 0)], [*pages, Page([], 0), Page([], 0)])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, cast("threading.Event", pauses)).run()
    assert len([each for each in logged if "cannot be read" in each["event"]]) == 1
    assert [each["failures"] for each in logged if "can be read again" in each["event"]] == [6]


def test_polls_that_end_at_once_with_nothing_are_made_slowly(tracker: ChangeTracker) -> None:
    """A proxy answers the polls; without a pause it would be asked as often as it can answer."""
    pauses = Pauses()
    early = Page([], 0, early=True)
    source = ScriptedSource(tracker, [Identity("copy", 0)], [Page([], 0), *[early] * 5, Page([], 0), Page([], 0)])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, cast("threading.Event", pauses)).run()
    assert len(pauses.seconds) == 5


def test_deleted_users_who_are_purged_are_no_other_history(tracker: ChangeTracker) -> None:
    """Each purge would cost a restart of the listener and a scan of everybody."""
    deleted = Row(1, user_document_id("ann"), deleted=True)
    pages: list[Page | Exception] = [Page([deleted, Row(2, user_document_id("bob"))], 2), Page([], 2), Page([], 2)]
    identities = [Identity("copy", 0), Identity("copy", 2)]
    source = ScriptedSource(tracker, identities, pages, lost=[deleted])
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert source.questions == 2


def test_a_backlog_is_read_without_pauses_after_polls_that_broke(tracker: ChangeTracker) -> None:
    """The pauses are between polls, and a whole crowd can have signed up meanwhile."""
    pauses = Pauses()
    backlog: list[Page | Exception] = [
        msgspec.structs.replace(_page(first, first + 1), cut=True) for first in (1, 3, 5, 7)
    ]
    pages: list[Page | Exception] = [Page([], 0), errors.GatewayError(""), *backlog, _page(9, 10)]
    source = ScriptedSource(tracker, [Identity("copy", 0), Identity("copy", 0), Identity("copy", 10)], pages)
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, cast("threading.Event", pauses)).run()
    assert [how for how, _ in source.asked] == ["page", "poll", *["page"] * 5, "poll"]
    assert len(pauses.seconds) == 2, "after the failure, and before the next poll"


def test_a_poll_that_shows_nothing_of_a_copy_that_has_gone_on_is_followed_by_a_page(tracker: ChangeTracker) -> None:
    """A proxy may answer polls itself. One extra read is enough, because writes of a security object leave no row."""
    nothing = Page([], 0)
    source = ScriptedSource(
        tracker, [Identity("copy", 0), Identity("copy", 0), Identity("copy", 3)], [nothing, nothing, _page(1, 2)]
    )
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert [how for how, _ in source.asked] == ["page", "poll", "page", "poll"]
    quiet = ScriptedSource(tracker, [Identity("copy", 0), Identity("copy", 3)], [nothing] * 4)
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", quiet), tracker, threading.Event()).run()
    assert [how for how, _ in quiet.asked] == ["page", "page", "poll", "poll", "poll"]


@pytest.mark.parametrize(
    ("newest", "lost", "scanned"),
    [
        (_row_of(7), (), False),
        (_row_of(9, "bob"), (), False),
        (_row_of(9, "bob"), (_row_of(7),), True),
        (None, (_row_of(7),), True),
    ],
    ids=["as it was", "has gone on", "put back", "emptied"],
)
def test_a_checkpoint_is_used_only_where_its_row_is(
    store: Store,
    newest: Row | None,
    lost: tuple[Row, ...],
    scanned: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Restored files keep the copy's identity. Its last sequence proves nothing once more rows came than were lost."""
    store.save(SavedProgress("copy", 7, MINE, covered=(MINE,), last_row=_row_of(7)))
    tracker = make_tracker(ownership=MINE, share=1, store=store)
    source = ScriptedSource(tracker, [Identity("copy", 9)], [], newest=newest, lost=lost)
    with pytest.raises(Stopped):
        Follower(cast("ChangeSource", source), tracker, threading.Event()).run()
    assert source.asked == [("page", 9 if scanned else 7)]
    assert tracker._state.intake.is_scanning == scanned


def test_every_round_is_a_beat(tracker: ChangeTracker) -> None:
    """Pages, empty polls and failures all count as rounds of the loop."""
    pages: list[Page | Exception] = [_page(1, 1), Page([], 1), errors.TimedOutError(""), Page([], 1)]
    _follow(tracker, [Identity("copy", 0), Identity("copy", 1)], pages)
    assert tracker.report().rounds == 4


# On a simulated cluster


class RunningReaders:
    """Follower and scanner of node 1's copy of a range, each in a thread, and a worker that acts on everything.

    A long poll is short, so that nobody waits for its end.
    """

    def __init__(self, cluster: SimClusterThread, store: Store, long_poll_seconds: float = 0.2) -> None:
        self.acted: list[str] = []
        self.ended: list[BaseException] = []
        self.stopping = threading.Event()
        assignment = self._assignment(cluster)
        self.copy = assignment.copy
        self.tracker = make_tracker(
            instance=cluster.node_names[0],
            ownership=assignment.ownership,
            share=1,
            store=store,
            wake=lambda: None,
        )
        self.sources = [open_source(assignment.copy, connect(cluster.urls[0]), long_poll_seconds) for _ in range(2)]
        runs: list[Callable[[], Any]] = [
            Follower(self.sources[0], self.tracker, self.stopping).run,
            Scanner(self.sources[1], self.tracker, self.stopping, lambda _ids, *, remade=False: set()).run,  # noqa: ARG005 - an interface
            self._act,
        ]
        self._threads = [threading.Thread(target=self._guarded, args=(run,)) for run in runs]
        for thread in self._threads:
            thread.start()

    def _assignment(self, cluster: SimClusterThread) -> Assignment:
        names = tuple(cluster.node_names)
        shard_map = connect(cluster.urls[0]).shard_map("_local", "_users")
        # Node 1 alone has an instance, so all users are its own.
        return make_plan(View(names, names[:1], shard_map), names[0]).assignments[0]

    def report(self) -> Report:
        """Return the report."""
        return self.tracker.report()

    def stop(self) -> None:
        """End all threads as a listener does."""
        self.stopping.set()
        self.tracker.stop()
        for source in self.sources:
            source.interrupt()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _guarded(self, run: Callable[[], Any]) -> None:
        try:
            run()
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.ended.append(error)

    def _act(self) -> None:
        while (change := self.tracker.take()) is not None:
            self.acted.append(change.document_id)
            self.tracker.give_back(change, Outcome(provisioned=True))


@pytest.fixture
def reading(cluster: SimClusterThread, store: Store) -> Iterator[RunningReaders]:
    """Twenty users, and readers that know nothing of their copy at the start."""
    cluster.seed_users(20)
    made = RunningReaders(cluster, store)
    yield made
    made.stop()


def _users_of(cluster: SimClusterThread, reading: RunningReaders) -> set[str]:
    copies = cluster.snapshot_copies("_users")[cluster.node_names[0]]
    return {each for each in copies[str(reading.copy.range)]["revs"] if not each.startswith("_design/")}


def test_what_is_there_and_what_comes_is_read(cluster: SimClusterThread, reading: RunningReaders) -> None:
    """The scan finds existing users and the feed new ones; then the readers have caught up with the end of the copy."""
    eventually(lambda: reading.report().caught_up, "it has caught up")
    assert set(reading.acted) == _users_of(cluster, reading)
    for number in range(20):
        cluster.add_user(f"late{number}", "x")
    eventually(lambda: set(reading.acted) == _users_of(cluster, reading), "those who came late are served")
    eventually(lambda: reading.report().stage is Stage.FOLLOWING, "the last sweep of the scan is done")
    # The scan looks at a user once for the security object, and once more for its copies.
    seen = Counter(reading.acted)
    assert {seen[each] for each in reading.acted if "late" in each} == {1}
    assert {seen[each] for each in reading.acted if "late" not in each} == {2}
    copies = cluster.snapshot_copies("_users")[cluster.node_names[0]]
    eventually(lambda: reading.report().checkpoint == copies[str(reading.copy.range)]["update_seq"], "it is at the end")


def test_a_node_that_is_away_for_a_while_is_followed_on(cluster: SimClusterThread, reading: RunningReaders) -> None:
    """While the node is down the reader connects; once it is back it goes on, and has what happened meanwhile."""
    eventually(lambda: reading.report().caught_up, "it has caught up")
    cluster.stop_node(1)
    eventually(lambda: reading.report().stage is Stage.CONNECTING, "it has noticed")
    assert not reading.report().caught_up
    cluster.seed_users(20, "meanwhile")
    cluster.start_node(1)
    eventually(lambda: set(reading.acted) == _users_of(cluster, reading), "all are served")
    eventually(lambda: reading.report().caught_up, "it has caught up")
    assert reading.report().counters.failures
    assert not reading.ended


def test_faults_of_the_server_are_outlived(cluster: SimClusterThread, reading: RunningReaders) -> None:
    """Errors, cut answers and silence on the feed's path lose nothing."""
    for outcome in (500, 503, "cut", "cut-mid"):
        cluster.fail(1, outcome, count=3, path_regex="_changes")
    eventually(lambda: reading.report().caught_up, "it has caught up")
    cluster.fail(1, 500, probability=0.5, path_regex="_changes|_users")
    for number in range(20):
        cluster.add_user(f"late{number}", "x")
    eventually(lambda: set(reading.acted) == _users_of(cluster, reading), "all are served")
    assert not reading.ended


def test_a_copy_made_again_under_a_reader_is_noticed(cluster: SimClusterThread, reading: RunningReaders) -> None:
    """A copy with the same name and other sequences ends the readers, so that the listener begins anew."""
    eventually(lambda: reading.report().caught_up, "it has caught up")
    cluster.rebuild_copy(1, "_users", str(reading.copy.range))
    eventually(lambda: reading.ended, "it has noticed")
    assert isinstance(reading.ended[0], CopyReplacedError)


def test_stopping_ends_a_poll_that_waits(cluster: SimClusterThread, store: Store) -> None:
    """A reader in the middle of a long poll ends at once."""
    reading = RunningReaders(cluster, store, long_poll_seconds=2 * PATIENCE_SECONDS)
    eventually(lambda: reading.report().caught_up, "it has caught up")
    reading.stop()
    assert not reading.ended


def test_a_shard_is_followed_by_its_own_feed(reading: RunningReaders) -> None:
    """The plan's copy is read as a shard."""
    assert reading.copy.feed is Feed.SHARD
