"""The two readers of a listener: the follower of the live feed, and the scanner that reads the range from the start.

Both survive every failure of the server: a failed request is made again, with back-off, until it succeeds or the
listener stops. They enter the rows into the tracker, and decide nothing about them.
"""

import threading
import time
from collections.abc import Callable, Collection
from typing import Final, ParamSpec, Protocol, TypeVar

import msgspec
import structlog

from peruserd import threads
from peruserd.core.common.backoff import Backoff
from peruserd.core.feed import history
from peruserd.core.feed.progress import Identity, is_behind
from peruserd.core.feed.rows import Page, Row, Sequence
from peruserd.core.users.quarantine import Advice
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.sources import ChangeSource
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.jitter import jitter

P = ParamSpec("P")
T = TypeVar("T")

_BACKOFF: Final = {
    Advice.RETRY: Backoff(initial_seconds=0.2, max_seconds=5.0),
    Advice.GIVE_UP: Backoff(initial_seconds=5.0, max_seconds=60.0),
    # A person has to change something, or a proxy has a bad hour. Every new user waits until it is over.
    Advice.ASK_OPERATOR: Backoff(initial_seconds=1.0, max_seconds=15.0),
}

# The pause after a long poll that broke or ended early with nothing. A proxy cuts polls, or answers them itself. A user
# who signs up then waits at most this long.
_POLLS_APART: Final = Backoff(initial_seconds=0.2, max_seconds=2.0)

# How often a readable copy is asked for its history before it counts as a copy that does not answer.
_MAX_QUESTIONS: Final = 3
_QUESTIONS_APART: Final = Backoff(initial_seconds=0.2, max_seconds=2.0)

# How often the identity of the copy is checked on a feed without quiet moments: one small request in that time.
_CONFIRM_SECONDS: Final = 60.0

# The pause between an answer with a single change and the next long poll. It costs a node more to begin a poll than to
# answer it. Without the pause all instances would begin a poll just when the node has a database to create. All users
# who sign up during the pause come with the next answer. A real cluster with 10 sign-ups a second spent 126 ms of
# processor time on each user with the pause and 136 ms without, and p50 and p99 were lower too. A pause of 50 ms saved
# no more. An answer with several changes is followed by no pause, because there is nothing to gain.
_REST_SECONDS: Final = 0.025

log = structlog.get_logger(__name__)


class CopyReplacedError(Exception):
    """The followed copy was replaced by another one: all that is known of it is void."""


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The listener is stopping."""


class Persistence:
    """Makes requests until they succeed. `on_failure` gets the kind of each failure; each kind is logged once.

    A success ends the trouble, unless `lasts` says that the failed kind of request was not tried again.
    """

    def __init__(
        self,
        stopping: threading.Event,
        on_failure: Callable[[str], None],
        *,
        trouble: str = "feed cannot be read; trying again",
        relief: str = "feed can be read again",
        lasts: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stopping = stopping
        self._on_failure = on_failure
        self._trouble = trouble
        self._relief = relief
        self._lasts = lasts
        self._failures = 0
        self._in_all = 0
        self._last_kind: str | None = None

    def call(self, request: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the request returns, however long it takes; raises Stopped when the listener stops."""
        while True:
            try:
                result = request(*args, **kwargs)
            except InterruptedRequestError as error:
                raise Stopped from error
            except CouchError as error:
                self._wait(error)
            else:
                self._failures = 0
                if self._in_all and not self._lasts():
                    log.info(self._relief, failures=self._in_all)
                    self._in_all = 0
                    self._last_kind = None
                return result

    def _wait(self, error: CouchError) -> None:
        self._failures += 1
        self._in_all += 1
        self._on_failure(error.kind)
        if error.kind != self._last_kind:
            # Once for each kind in a row: a node that is away for an hour is one event, not a thousand.
            log.warning(self._trouble, kind=error.kind, error=str(error))
            self._last_kind = error.kind
        backoff = _BACKOFF[error.advice]
        if threads.pause(self._stopping, backoff.delay(self._failures, jitter())):
            raise Stopped


class Follower:
    """Reads the live feed of one copy into the tracker."""

    def __init__(self, source: ChangeSource, tracker: ChangeTracker, stopping: threading.Event) -> None:
        self._source = source
        self._tracker = tracker
        self._stopping = stopping
        self._failed = False
        self._at_end = False
        # How many long polls in a row broke or ended well before their time.
        self._odd_polls = 0
        # How far the copy had gone on when it was last read without a poll because of that.
        self._read_up_to: Sequence | None = None
        # The rows that prove the history, and whether the copy did not tell whether it has them.
        self._proof: tuple[Row, ...] = ()
        self._history_unknown = False
        self._persistence = Persistence(stopping, self._on_failure, lasts=lambda: self._odd_polls > 0)

    def run(self) -> None:
        """Follow until the listener stops. Raises CopyReplacedError where the copy was replaced meanwhile."""
        identity = self._identify(self._tracker.proof)
        self._tracker.open(identity)
        self._proof = self._tracker.proof
        confirm_at = time.monotonic() + _CONFIRM_SECONDS
        while (since := self._tracker.wait_for_room()) is not None:
            page = self._persistence.call(self._read, since)
            self._at_end = page.is_last
            # A replaced copy answers a sequence beyond its end with nothing (measured), not with an error. So the copy
            # is confirmed in three cases:
            # - after an empty page, which proves nothing by itself
            # - after a failure
            # - on a busy feed, now and then. A copy that was replaced between two polls would otherwise never be
            #   noticed.
            # A proxy can hide that a poll broke, so the history is checked together with the copy.
            if self._failed or not page.results or time.monotonic() >= confirm_at:
                # On a busy feed the page shows which documents have changed since.
                now = self._confirm(identity, since, () if self._failed else page.results)
                self._failed = False
                confirm_at = time.monotonic() + _CONFIRM_SECONDS
                if not page.results:
                    self._doubt_the_end(now, since)
            self._tracker.enter_live(page)
            self._tracker.note_round()
            if not self._history_unknown:
                # This is skipped while the history is unknown: newer rows would prove only the newer history.
                self._proof = self._tracker.proof
            if (pause := self._pause(page)) and threads.pause(self._stopping, pause):
                return

    def _identify(self, proof: tuple[Row, ...]) -> Identity:
        """Ask for the copy's identity, and whether it has the rows that prove the checkpoint."""
        identity = self._persistence.call(self._source.identify)
        recent = history.noted((), self._persistence.call(self._source.recent))
        has_last_row: bool | None = not recent
        if proof:
            has_last_row = self._has(proof)
        if has_last_row is None and recent[-1:] == proof[-1:]:
            # Where the copy does not answer more, its newest row is proof enough.
            has_last_row = True
        return msgspec.structs.replace(identity, recent=recent, has_last_row=has_last_row)

    def _confirm(self, identity: Identity, since: Sequence, page: Collection[Row]) -> Identity:
        """Return the copy's identity as it is now; raises CopyReplacedError where it is another copy than before.

        Documents on the page have changed, so their earlier rows prove nothing.
        """
        now = self._persistence.call(self._source.identify)
        if now.uuid != identity.uuid or is_behind(now, since):
            raise CopyReplacedError(f"copy {identity.uuid} is now {now.uuid} at {now.update_seq}")
        moved = {row.id for row in page}
        proof = tuple(row for row in self._proof if row.id not in moved)
        if proof and self._has(proof) is False:
            raise CopyReplacedError(f"copy {identity.uuid} has another history than was read of it")
        return now

    def _has(self, rows: tuple[Row, ...]) -> bool | None:
        """Say whether the copy has all these rows; None where it does not answer that, although it can be read.

        The number of questions is limited, because nobody is served meanwhile, and a proxy may refuse this question for
        ever.
        """
        # Once the copy did not answer, it is asked only once each time.
        for number in range(1 if self._history_unknown else _MAX_QUESTIONS):
            if number:
                self._rest(_QUESTIONS_APART.delay(number, jitter()))
                # Where the copy cannot be read at all, this waits until it can.
                self._persistence.call(self._source.identify)
            try:
                has = self._source.has(*rows)
            except InterruptedRequestError as error:
                raise Stopped from error
            except CouchError as error:
                trouble = error
            else:
                if self._history_unknown:
                    log.info("the copy tells again which history it has")
                self._history_unknown = False
                return has
            self._tracker.note_round()
        if not self._history_unknown:
            log.warning(
                "the copy does not tell which history it has; one that was put back from a backup may go unnoticed",
                kind=trouble.kind,
                error=str(trouble),
            )
        self._history_unknown = True
        return None

    def _doubt_the_end(self, now: Identity, since: Sequence) -> None:
        """Read a copy at once if it has newer changes than a poll showed: a proxy may have answered the poll."""
        if isinstance(now.update_seq, int) and now.update_seq not in (since, self._read_up_to):
            self._read_up_to = now.update_seq
            self._at_end = False

    def _pause(self, page: Page) -> float:
        """Return the pause after a page, in seconds; there is none within a backlog."""
        if self._odd_polls and self._at_end:
            return _POLLS_APART.delay(self._odd_polls, jitter())
        return _REST_SECONDS if len(page.results) == 1 else 0.0

    def _rest(self, seconds: float) -> None:
        if threads.pause(self._stopping, seconds):
            raise Stopped

    def _read(self, since: Sequence) -> Page:
        # A long poll is used only at the end of a backlog, and not after a failure. After a failure it must soon be
        # known whether the feed is readable again and of the same copy. A long poll would take too long.
        if not self._at_end or self._failed:
            return self._source.page(since)
        odd_polls = self._odd_polls
        self._odd_polls += 1
        page = self._source.poll(since)
        self._odd_polls = odd_polls + 1 if page.early else 0
        return page

    def _on_failure(self, kind: str) -> None:
        self._failed = True
        self._tracker.feed_failed(kind)
        # The loop is alive even if the server is away.
        self._tracker.note_round()


class FindMissing(Protocol):
    """Finds out which databases are missing."""

    def __call__(self, document_ids: Collection[str], *, remade: bool = False) -> set[str]:
        """Return the user documents without a database; with `remade` also those whose database was made again."""


class Scanner:
    """Reads the range from the start into the tracker whenever a scan is wanted, behind the live feed.

    `find_missing` makes requests.
    """

    def __init__(
        self,
        source: ChangeSource,
        tracker: ChangeTracker,
        stopping: threading.Event,
        find_missing: FindMissing,
    ) -> None:
        self._source = source
        self._tracker = tracker
        self._find_missing = find_missing
        self._persistence = Persistence(stopping, lambda _kind: None)

    def run(self) -> None:
        """Scan whenever it is wanted, until the listener stops."""
        while (task := self._tracker.wait_for_scan()) is not None:
            page = self._persistence.call(self._source.page, task.since)
            to_check = task.to_check(page)
            missing = self._persistence.call(self._find_missing, to_check, remade=task.names) if to_check else set()
            self._tracker.enter_scan(task, page, missing)
