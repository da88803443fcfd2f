"""The journal watch: a thread that reads what operators and other instances write about deletions.

One watch serves all listeners of an instance. It follows the journal's own feed, with one small request every few
seconds; the feed is empty while no user is deleted. The watch tells listeners only about operators' words and the
pause, because listeners already know their own entries.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd.core.deletions.journal import PAUSE_ID, UNREADABLE, WORD_PREFIX, Pause, PauseReason
from peruserd.core.processes.messages import JournalNews
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.journal import PAGE_ROWS
from peruserd.repeated_task import RepeatedTask

# If many users are deleted at once, an operator's word stands behind thousands of entries in the feed.
_MAX_PAGES: Final = 20

_WHY_PAUSED: Final = {
    PauseReason.BREAKER: "deletions are stopped by the breaker",
    PauseReason.OPERATOR: "deletions are paused by an operator",
    PauseReason.EXPOSED: "deletions are paused, because others could write to the journal",
    PauseReason.UNREADABLE: "deletions are paused, because what the journal says of a pause cannot be understood",
}

log = structlog.get_logger(__name__)


class JournalWatch:
    """Reads the journal in its own thread, and calls `on_news` with each change.

    `is_usable` says whether the journal's database is peruserd's own and closed to others.
    """

    def __init__(
        self,
        journal: DeletionJournal,
        *,
        is_usable: Callable[[], bool],
        on_news: Callable[[JournalNews], None],
        interval_seconds: float,
    ) -> None:
        self._journal = journal
        self._is_usable = is_usable
        self._on_news = on_news
        self._interval = interval_seconds
        self._place: int | str | None = None
        self._usable = False
        self._has_notified = False
        self._last_kind: str | None = None
        self._pause = UNREADABLE
        self._pause_read = False
        self._task = RepeatedTask("journal-watch", self._turn)

    @property
    def usable(self) -> bool:
        """Say whether the journal could be read and trusted the last time; for any thread."""
        return self._usable

    @property
    def pause(self) -> Pause:
        """Return the pause of all drops. A journal that cannot be read counts as a pause. For any thread."""
        return self._pause if self._usable else UNREADABLE

    def start(self) -> None:
        """Start the thread."""
        self._task.start()

    def stop(self) -> None:
        """End the watch. The owner of the session has to interrupt a request that is under way.

        Returns once the thread has ended, or after the time that a part may take to end.
        """
        self._task.stop()
        self._task.join()

    def set_interval(self, seconds: float) -> None:
        """Take another interval; for any thread."""
        self._interval = seconds
        self._task.soon()

    def read_soon(self) -> None:
        """Read the journal at once, because an order has written to it."""
        self._task.soon()

    def read(self) -> None:
        """Read the journal once, and report changes. After a failure it is reported as not usable."""
        try:
            if not self._is_usable():
                self._notify(usable=False)
                return
            changed = self._changed()
        except InterruptedRequestError:
            return
        except CouchError as error:
            if error.kind != self._last_kind:
                log.warning(
                    "journal of deletions cannot be read; nothing is dropped", kind=error.kind, error=str(error)
                )
            self._last_kind = error.kind
            # After a failure all words are read again, so words written meanwhile are not missed.
            self._place = None
            self._notify(usable=False)
            return
        self._last_kind = None
        spoken_of = tuple(each.removeprefix(WORD_PREFIX) for each in changed if each.startswith(WORD_PREFIX))
        self._notify(usable=True, spoken_of=spoken_of, pause_changed=PAUSE_ID in changed)

    def _changed(self) -> list[str]:
        """Return the ids of the documents changed since the last reading. The first reading returns all that matter."""
        if self._place is None:
            _, place = self._journal.changed_since("now")
            changed = [PAUSE_ID, *(f"{WORD_PREFIX}{each}" for each in self._journal.sayings())]
        else:
            changed, place = self._read_on(self._place)
        if PAUSE_ID in changed:
            self._note_pause(self._journal.pause())
        self._place = place
        return changed

    def _read_on(self, place: int | str) -> tuple[list[str], int | str]:
        """Return the ids of operators' documents after a place, and the place up to which the feed was read."""
        found: list[str] = []
        for _ in range(_MAX_PAGES):
            page, place = self._journal.changed_since(place)
            found += (each for each in page if each == PAUSE_ID or each.startswith(WORD_PREFIX))
            if len(page) < PAGE_ROWS:
                break
        return found, place

    def _note_pause(self, pause: Pause) -> None:
        was_paused = self._pause_read and self._pause.paused
        self._pause, self._pause_read = pause, True
        if pause.paused and not was_paused:
            report = log.error if pause.why is PauseReason.BREAKER else log.warning
            report(
                _WHY_PAUSED[pause.why],
                instance=pause.instance,
                seconds_ago=round(time.time() - pause.at),
                advice="peruserd deletions list; peruserd deletions resume",
            )
        elif was_paused and not pause.paused:
            log.info("deletions go on")

    def _notify(self, *, usable: bool, spoken_of: tuple[str, ...] = (), pause_changed: bool = False) -> None:
        if self._has_notified and usable == self._usable and not spoken_of and not pause_changed:
            return
        self._has_notified, self._usable = True, usable
        self._on_news(JournalNews(usable, spoken_of, pause_changed))

    def _turn(self) -> float:
        try:
            self.read()
        except Exception:
            self._notify(usable=False)
            raise
        return self._interval
