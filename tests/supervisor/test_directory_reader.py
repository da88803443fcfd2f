"""The reader of a list of databases, without a server, a thread or a disk."""

import pytest

from peruserd.core.cluster.directory import Mark, News
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Leaf, Page, Row, Sequence
from peruserd.couch import errors
from peruserd.supervisor.directory_reader import DirectoryReader

ROW = Row(5, "userdb-616e6e", changes=(Leaf("1-a"),))
MARK = Mark("list", 5, ROW)


class Asked:
    """The looks that were asked for."""

    def __init__(self) -> None:
        self.comparisons = 0
        self.seen_to: Mark | None = None
        self.news: list[News] = []

    def on_news(self, news: News, mark: Mark) -> None:
        """Note the mark."""
        self.news.append(news)
        self.seen_to = mark

    def compare_names(self) -> None:
        """Count the request."""
        self.comparisons += 1


class SilentDirectory:
    """A list of databases whose history cannot be read: a proxy may refuse that request."""

    def identify(self) -> Identity:
        """Say that nothing has changed."""
        return Identity("list", 5)

    def poll(self, since: Sequence) -> Page:
        """Return no rows."""
        return Page([], since)

    def newest(self) -> Row | None:
        """Return the newest row."""
        return ROW

    def has(self, row: Row) -> bool:
        """Refuse the request."""
        raise errors.ForbiddenError(row.id)


def begun(mark: Mark | None) -> tuple[DirectoryReader, Asked]:
    """Return a reader, and the looks that it asks for."""
    asked = Asked()
    return DirectoryReader(mark, on_change={}, prefix="userdb-", looks=asked), asked


def test_a_list_that_does_not_tell_its_history_at_the_start_has_names_compared() -> None:
    """After two refusals the list is read all the same, because changes by others must not be missed."""
    reader, asked = begun(MARK)
    with pytest.raises(errors.ForbiddenError):
        reader.begin(SilentDirectory())
    assert reader.begin(SilentDirectory()) == MARK
    assert asked.comparisons == 1


def test_a_list_that_does_not_tell_its_history_is_read_on_without_comparing_names_all_the_time() -> None:
    """A comparison reads all users, and without this each empty poll would start one."""
    reader, asked = begun(None)
    mark = reader.begin(SilentDirectory())
    assert asked.comparisons == 1
    with pytest.raises(errors.ForbiddenError):
        reader.read_on(SilentDirectory(), mark)
    for _ in range(3):
        mark = reader.read_on(SilentDirectory(), mark)
    assert (mark, asked.comparisons) == (MARK, 1)
