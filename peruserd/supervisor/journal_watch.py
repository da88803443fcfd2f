"""Watching the journal of deletions for what operators and other instances write, once for all listeners.

It follows the journal's own feed, in which nothing happens while nobody is deleted: one small request every few
seconds for the whole instance. Listeners are told of what was said; what they noted themselves they know.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd import ending
from peruserd.core.deletions.journal import PAUSE_ID, UNREADABLE, WORD_PREFIX, Pause, PauseReason
from peruserd.core.processes.messages import JournalNews
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.couch.journal import PAGE_ROWS

# Where many users are deleted at once, a word of the operator stands behind thousands of entries in the feed.
_MAX_PAGES: Final = 20

_WHY_PAUSED: Final = {
    PauseReason.BREAKER: "deletions are stopped by the breaker",
    PauseReason.OPERATOR: "deletions are paused by an operator",
    PauseReason.EXPOSED: "deletions are paused, because others could write to the journal",
    PauseReason.UNREADABLE: "deletions are paused, because what the journal says of a pause cannot be understood",
}

log = structlog.get_logger(__name__)


class JournalWatch:
    """Looks from a thread of its own, and tells `on_news` what has changed.

    `is_usable` says whether the journal's database is ours and closed to others.
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
        self._wanted = threading.Event()
        self._stopping = False
        self._place: int | str | None = None
        self._usable = False
        self._told = False
        self._last_kind: str | None = None
        self._pause = UNREADABLE
        self._pause_read = False
        self._thread = threading.Thread(target=self._run, name="journal-watch", daemon=True)

    @property
    def usable(self) -> bool:
        """Say whether the journal could be read and trusted at the last look; for any thread."""
        return self._usable

    @property
    def pause(self) -> Pause:
        """Return whether all drops wait; a journal that cannot be read is a pause. For any thread."""
        return self._pause if self._usable else UNREADABLE

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a request under way has to be interrupted by whoever owns its session.

        Returns once the thread has ended, or does not in time.
        """
        self._stopping = True
        self._wanted.set()
        ending.join(self._thread)

    def look_soon(self) -> None:
        """Look at once, because something was written."""
        self._wanted.set()

    def look(self) -> None:
        """Look once, and tell what has changed; failures are told as a journal that cannot be used."""
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
            # Words that are written meanwhile are found by reading all of them.
            self._place = None
            self._notify(usable=False)
            return
        self._last_kind = None
        spoken_of = tuple(each.removeprefix(WORD_PREFIX) for each in changed if each.startswith(WORD_PREFIX))
        self._notify(usable=True, spoken_of=spoken_of, pause_changed=PAUSE_ID in changed)

    def _changed(self) -> list[str]:
        """Return the ids of the documents changed since the last look; at the first one all that matter."""
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
        """Return what operators wrote after a place, and the place up to which was read."""
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
        if self._told and usable == self._usable and not spoken_of and not pause_changed:
            return
        self._told, self._usable = True, usable
        self._on_news(JournalNews(usable, spoken_of, pause_changed))

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.look()
            except Exception:
                log.exception("journal of deletions could not be looked at")
                self._notify(usable=False)
            self._wanted.wait(self._interval)
            self._wanted.clear()
