"""How far one node's list of databases was read, and what follows from its rows.

Without a thread, a clock and a disk: `supervisor.directory_watch` has these, and reads on whenever there is something.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from peruserd.core.cluster.directory import Mark, News, news_of, why_not_from
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Page, Row, Sequence, is_short
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError

# How often the node is asked for the history of its list before it counts as one that does not tell.
_MAX_QUESTIONS: Final = 2

log = structlog.get_logger(__name__)


class Looks(Protocol):
    """Lets listeners look at users; `supervisor.loop` does. Its methods return at once."""

    def on_news(self, news: News, mark: Mark) -> None:
        """Look at users of whose databases there is news; `seen_to` comes to the mark once all that is done."""

    def compare_names(self) -> None:
        """Compare the names of all users' databases with what is there."""

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which all is done."""


class Directory(Protocol):
    """One node's list of databases; every method raises CouchError."""

    def identify(self) -> Identity:
        """Ask which list this is, and how far it goes."""

    def poll(self, since: Sequence) -> Page:
        """Return the next rows after `since`, or none."""

    def newest(self) -> Row | None:
        """Return the newest row; None where there is none."""

    def has(self, row: Row) -> bool:
        """Say whether a row that was once read is a part of the history still."""


class DirectoryReader:
    """Reads from `mark` on, which is where it stands; calls `on_change` of a database whose shard map was written."""

    def __init__(
        self, mark: Mark | None, *, on_change: Mapping[str, Callable[[], None]], prefix: str, looks: Looks
    ) -> None:
        self.mark = mark
        self._on_change = on_change
        self._prefix = prefix
        self._looks = looks
        # Whether this process knows how far the list was read, and how often in a row the node did not tell.
        self._begun = False
        self._untold = 0

    def begin(self, directory: Directory) -> Mark:
        """Return the place to read on from: where it was, if this is the list that was read. Raises CouchError."""
        mark, identity = self.mark, directory.identify()
        why = why_not_from(mark, identity)
        if why is None and mark is not None:
            has = self._has(directory, mark)
            if has or (has is None and self._begun):
                self._begun = True
                return mark
            why = "the node's list of databases has another history than was read of it"
            if has is None:
                why = "it cannot be found out whether the node's list of databases is the one that was read"
        log.info("the names of all users' databases are compared", why=why)
        begun = Mark(identity.uuid, identity.update_seq, directory.newest())
        self.mark = begun
        self._begun = True
        self._looks.compare_names()
        self._looks.on_news(News(), begun)
        return begun

    def _has(self, directory: Directory, mark: Mark) -> bool | None:
        """Say whether the list has the row of a mark; None where the node does not tell, although it can be read.

        A proxy may refuse this question alone for ever. Raises CouchError where it is to be asked once more.
        """
        if mark.last_row is None:
            return True
        try:
            has = directory.has(mark.last_row)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            self._untold += 1
            if self._untold < _MAX_QUESTIONS:
                raise
            if self._untold == _MAX_QUESTIONS:
                log.warning(
                    "the node does not tell which history its list of databases has",
                    kind=error.kind,
                    error=str(error),
                )
            return None
        self._untold = 0
        return has

    def read_on(self, directory: Directory, mark: Mark) -> Mark:
        """Read what is new after a mark, and return the next one. Raises CouchError."""
        page = directory.poll(mark.sequence)
        if not page.results:
            # A list that was replaced answers a place behind its end with nothing.
            mark = self.begin(directory)
        newest = next((row for row in reversed(page.results) if is_short(row)), mark.last_row)
        self.mark = mark = Mark(mark.uuid, page.last_seq if page.results else mark.sequence, newest)
        for name in {row.id for row in page.results}.intersection(self._on_change):
            self._on_change[name]()
        if page.results:
            self._looks.on_news(news_of(page.results, self._prefix), mark)
        return mark
