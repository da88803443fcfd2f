"""The two readers of a listener: the follower of the live feed, and the scanner that reads the range from the start.

Both outlive every failure of the server: a request that fails is made again, with back-off, until it succeeds or the
listener stops. They enter the rows into the ledger, and do not decide whether anything is done about them.
"""

import random
import threading
import time
from collections.abc import Callable, Collection
from typing import Final, ParamSpec, Protocol, TypeVar

import msgspec
import structlog

from peruserd.core.backoff import Backoff
from peruserd.core.messages import Sequence
from peruserd.core.progress import Identity, is_behind
from peruserd.core.quarantine import Advice
from peruserd.core.rows import Page, Row, proof_size_of
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.sources import ChangeSource
from peruserd.listener.ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")

_BACKOFF: Final = {
    Advice.RETRY: Backoff(first_seconds=0.2, most_seconds=5.0),
    Advice.GIVE_UP: Backoff(first_seconds=5.0, most_seconds=60.0),
    # Something that a person has to open or to change, unless a proxy was closed for a moment.
    Advice.ASK_OPERATOR: Backoff(first_seconds=2.0, most_seconds=300.0),
}

# A feed that is never quiet is asked for its copy this often: one small request in that time.
_CONFIRM_SECONDS: Final = 60.0

# After a single change came, before the next long poll. To begin one costs a node more than to answer it, and all
# instances would do so just when the node has a database to create; and whoever signs up meanwhile comes with the same
# answer. At 10 sign-ups a second each cost a real cluster 126 ms of processor time instead of 136 (with 50 ms no less),
# p50 and p99 were lower. Where changes come several at a time there is nothing to gain.
_REST_SECONDS: Final = 0.025

log = structlog.get_logger(__name__)


class CopyReplacedError(Exception):
    """The copy being followed is no longer the one it was: all that is known of it is void."""


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The listener is stopping."""


class Persistence:
    """Makes requests until they succeed. `on_failure` learns the kind of each failure; the log has each kind once."""

    def __init__(
        self,
        stopping: threading.Event,
        on_failure: Callable[[str], None],
        *,
        trouble: str = "feed cannot be read; trying again",
        relief: str = "feed can be read again",
    ) -> None:
        self._stopping = stopping
        self._on_failure = on_failure
        self._trouble = trouble
        self._relief = relief
        self._failures = 0
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
                if self._failures:
                    log.info(self._relief, failures=self._failures)
                self._failures = 0
                self._last_kind = None
                return result

    def _wait(self, error: CouchError) -> None:
        self._failures += 1
        self._on_failure(error.kind)
        if error.kind != self._last_kind:
            # Once for each kind in a row: a node that is away for an hour is one event, not a thousand.
            log.warning(self._trouble, kind=error.kind, error=str(error))
            self._last_kind = error.kind
        backoff = _BACKOFF[error.advice]
        chance = random.random()  # noqa: S311 - spreads tries, guards nothing
        if self._stopping.wait(backoff.delay(self._failures, chance)):
            raise Stopped


class Follower:
    """Reads the live feed of one copy into the ledger."""

    def __init__(self, source: ChangeSource, ledger: Ledger, stopping: threading.Event) -> None:
        self._source = source
        self._ledger = ledger
        self._stopping = stopping
        self._failed = False
        self._at_end = False
        self._persistence = Persistence(stopping, self._on_failure)

    def run(self) -> None:
        """Follow until the listener stops. Raises CopyReplacedError where the copy is another one meanwhile."""
        identity = self._identify(self._ledger.last_row)
        self._ledger.open(identity)
        read = self._ledger.last_row
        confirm_at = time.monotonic() + _CONFIRM_SECONDS
        while (since := self._ledger.wait_for_room()) is not None:
            page = self._persistence.call(self._read, since)
            self._at_end = page.is_last
            # A copy that was replaced answers a sequence beyond its end with nothing (measured), not with an error. So
            # an empty page is believed only once the copy was seen to be the same, and so is a page after a failure.
            # A busy feed is asked now and then, because a copy replaced between two polls would never be noticed. A
            # proxy can hide that a poll broke, so the history is asked for whenever the copy is.
            if self._failed or not page.results or time.monotonic() >= confirm_at:
                now = self._persistence.call(self._source.identify)
                if now.uuid != identity.uuid or is_behind(now, since):
                    raise CopyReplacedError(f"copy {identity.uuid} is now {now.uuid} at {now.update_seq}")
                if read is not None and not self._persistence.call(self._source.has, read):
                    raise CopyReplacedError(f"copy {identity.uuid} has another history than was read of it")
                self._failed = False
                confirm_at = time.monotonic() + _CONFIRM_SECONDS
            self._ledger.enter_live(page)
            self._ledger.beat()
            read = next((each for each in reversed(page.results) if proof_size_of(each)), read)
            if len(page.results) == 1 and self._stopping.wait(_REST_SECONDS):
                return

    def _identify(self, last_row: Row | None) -> Identity:
        """Ask which copy this is, and whether it has the row at the checkpoint. Where none is known, there was none."""
        identity = self._persistence.call(self._source.identify)
        newest = self._persistence.call(self._source.newest)
        newest = newest if newest is not None and proof_size_of(newest) else None
        has_last_row = newest == last_row or (
            last_row is not None and self._persistence.call(self._source.has, last_row)
        )
        return msgspec.structs.replace(identity, newest=newest, has_last_row=has_last_row)

    def _read(self, since: Sequence) -> Page:
        # A backlog is read page by page; only at its end is there something to wait for. Nor is there after a failure:
        # whether the feed can be read again, and is of the same copy still, must not be unknown for a whole long poll.
        if self._at_end and not self._failed:
            return self._source.poll(since)
        return self._source.page(since)

    def _on_failure(self, kind: str) -> None:
        self._failed = True
        self._ledger.feed_failed(kind)
        # A server that is away does not make this loop a dead one.
        self._ledger.beat()


class FindMissing(Protocol):
    """Finds out which databases are not there."""

    def __call__(self, document_ids: Collection[str], *, remade: bool = False) -> set[str]:
        """Return which of these user documents have no database, or with `remade` one that was made again, too."""


class Scanner:
    """Reads the range from the start into the ledger whenever a scan is wanted, behind the live feed.

    `find_missing` makes requests.
    """

    def __init__(
        self,
        source: ChangeSource,
        ledger: Ledger,
        stopping: threading.Event,
        find_missing: FindMissing,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._find_missing = find_missing
        self._persistence = Persistence(stopping, lambda _kind: None)

    def run(self) -> None:
        """Scan whenever it is wanted, until the listener stops."""
        while (task := self._ledger.wait_for_scan()) is not None:
            page = self._persistence.call(self._source.page, task.since)
            candidates = task.candidates(page)
            missing = self._persistence.call(self._find_missing, candidates, remade=task.names) if candidates else set()
            self._ledger.enter_scan(task, page, missing)
