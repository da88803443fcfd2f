"""Lists: the rows of a copy of the authentication database, and the databases with a prefix."""

from collections.abc import Iterator
from typing import Final

from peruserd.core.feed.rows import Row, Sequence
from peruserd.couch.client import Client
from peruserd.couch.sources import ChangeSource

# Appended to a prefix, this sorts after every name that begins with it.
_LAST: Final = "\ufff0"

_PAGE: Final = 10_000


def rows_of(source: ChangeSource, since: Sequence = 0) -> Iterator[list[Row]]:
    """Yield all rows of a copy, page by page; raises CouchError."""
    while True:
        page = source.page(since)
        yield page.results
        if page.is_last:
            return
        since = page.last_seq


def databases_after(client: Client, prefix: str, after: str | None, limit: int) -> tuple[list[str], bool]:
    """Return the next names of databases, and whether these are the last; raises CouchError.

    They are the names with the prefix that follow `after`. A server that ignores keys and limits returns all its names
    each time.
    """
    start = prefix if after is None else after + "\x00"
    found = client.databases(start_key=start, end_key=prefix + _LAST, limit=limit)
    return found, len(found) != limit or (after is not None and found[-1] <= after)


def databases_with(client: Client, prefix: str) -> Iterator[list[str]]:
    """Yield the names of the databases with a prefix, page by page; raises CouchError."""
    after = None
    is_last = False
    while not is_last:
        found, is_last = databases_after(client, prefix, after, _PAGE)
        yield [each for each in found if each.startswith(prefix)]
        after = found[-1] if found else None
