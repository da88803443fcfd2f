"""Reads one node's list of databases: how far it was read, and what its rows mean for users.

This module has no thread, clock or disk. `supervisor.directory_watch` has these, and calls it whenever the list has new
rows.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from peruserd.core.cluster.directory import Mark, News, news_of, why_not_from
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Page, Row, Sequence, is_short
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError

# The node may fail this often to tell the history of its list. After that the reader goes on without an answer.
_MAX_QUESTIONS: Final = 2

log = structlog.get_logger(__name__)


class NewsLooks(Protocol):
    """Lets listeners look at users; `supervisor.loop` does. Its methods return at once."""

    def on_news(self, news: News, mark: Mark) -> None:
        """Look at the users whose databases have changed; `seen_to` becomes the mark once these looks are over."""

    def compare_names(self) -> None:
        """Compare the names of all users' databases with the databases that exist."""

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which all looks are over."""


class Directory(Protocol):
    """One node's list of databases; every method raises CouchError."""

    def identify(self) -> Identity:
        """Return the identity of this list, and its last sequence."""

    def poll(self, since: Sequence) -> Page:
        """Return the next rows after `since`; the page is empty if there are none."""

    def newest(self) -> Row | None:
        """Return the newest row; None if the list is empty."""

    def has(self, row: Row) -> bool:
        """Say whether a row that was read earlier still belongs to the list's history."""


class DirectoryReader:
    """Reads the list from `mark` on. If the shard map of a database was written, calls the `on_change` of that name."""

    def __init__(
        self, mark: Mark | None, *, on_change: Mapping[str, Callable[[], None]], prefix: str, looks: NewsLooks
    ) -> None:
        self.mark = mark
        self._on_change = on_change
        self._prefix = prefix
        self._looks = looks
        # Whether this process knows how far the list was read.
        self._begun = False
        self._failed_questions = 0

    def begin(self, directory: Directory) -> Mark:
        """Return the mark to read on from: the last one, if this is still the same list. Raises CouchError."""
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
        """Say whether the list has the row of a mark; None if the node does not tell, although it serves the list.

        A proxy may refuse only this request, for ever. Raises CouchError while the request should be tried again.
        """
        if mark.last_row is None:
            return True
        try:
            has = directory.has(mark.last_row)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            self._failed_questions += 1
            if self._failed_questions < _MAX_QUESTIONS:
                raise
            if self._failed_questions == _MAX_QUESTIONS:
                log.warning(
                    "the node does not tell which history its list of databases has",
                    kind=error.kind,
                    error=str(error),
                )
            return None
        self._failed_questions = 0
        return has

    def read_on(self, directory: Directory, mark: Mark) -> Mark:
        """Read the rows after a mark, and return the new mark. Raises CouchError."""
        page = directory.poll(mark.sequence)
        if not page.results:
            # A list that was replaced can be shorter. It returns nothing for a sequence beyond its end.
            mark = self.begin(directory)
        newest = next((row for row in reversed(page.results) if is_short(row)), mark.last_row)
        self.mark = mark = Mark(mark.uuid, page.last_seq if page.results else mark.sequence, newest)
        for name in {row.id for row in page.results}.intersection(self._on_change):
            self._on_change[name]()
        if page.results:
            self._looks.on_news(news_of(page.results, self._prefix), mark)
        return mark
