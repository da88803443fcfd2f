"""The functions that an auditor calls to read and to act, and the cutting of rows and names into batches."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from peruserd.core.audit.diagnosis import Rules
from peruserd.core.audit.rounds import Rounds
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.feed.rows import Page, Row
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, InterruptedRequestError, RefusedError, UnreachableError
from peruserd.couch.observing import Observer
from peruserd.couch.paths import copy_path
from peruserd.couch.session import quoted
from peruserd.couch.sources import ChangeSource

OF_THE_INSTANCE: Final = (UnreachableError, RefusedError, InterruptedRequestError)
"""Failures that say nothing about the copy in question: the server is away, or does not let this instance in."""


class Kept(Protocol):
    """The part of the state on disk that an auditor needs."""

    def rounds(self) -> Rounds:
        """Return what is kept of the rounds."""

    def keep_rounds(self, rounds: Rounds) -> None:
        """Keep the rounds; raises StoreError."""


class Tools(msgspec.Struct, frozen=True):
    """The functions that an auditor calls. `source` reads the copy that the listener follows.

    - `others` returns the copies of the range on other nodes, and `rules` the desired state. Both make requests.
    - `mine` says whether this instance owns a document now.
    - `is_calm` says whether the listener has caught up.
    - `look` requests a look at users, and `has_room` says whether few enough users wait for one.
    - `waits` says whether the journal of deletions may know of a user.
    - `on_change` is called when there is something to report.
    """

    client: Client
    copy: Copy
    source: ChangeSource
    observer: Observer
    others: Callable[[], Sequence[Copy]]
    rules: Callable[[], Rules]
    mine: Callable[[str], bool]
    is_calm: Callable[[], bool]
    look: Callable[[Collection[str]], None]
    has_room: Callable[[], bool]
    waits: Callable[[str], bool]
    on_change: Callable[[], None]


def audited_path(copy: Copy) -> str:
    """Return the path of the copy, or of the database where the server has no shards."""
    return f"/{quoted(copy.database)}" if copy.feed is Feed.DATABASE else copy_path(copy)


def page_or_silence(source: ChangeSource, since: int | str) -> Page | CouchError:
    """Return a page, or the reason why this one copy cannot be read; raises errors that concern all copies.

    A proxy can close the path of one copy, or answer it with anything.
    """
    try:
        return source.page(since)
    except OF_THE_INSTANCE:
        raise
    except CouchError as error:
        return error


def parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Cut items into parts of a size."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def batches(rows: Iterable[Row], concerns: Callable[[Row], bool], most: int) -> Iterator[list[Row]]:
    """Cut rows into batches, each with at most so many rows of users of this instance."""
    batch: list[Row] = []
    inside = 0
    for each in rows:
        batch.append(each)
        inside += concerns(each)
        if inside == most:
            yield batch
            batch, inside = [], 0
    if batch:
        yield batch
