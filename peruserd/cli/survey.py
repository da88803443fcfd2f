"""A round of the audit by a command: several threads check all users whom any copy of the cluster knows."""

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

import msgspec

from peruserd.cli.progress import Progress, announce
from peruserd.core.audit.diagnosis import Diagnosis, Observation, Rules, diagnose, seen_twice
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.escaping import counted
from peruserd.core.common.names import (
    MAX_ID_CHARACTERS,
    USER_DOCUMENT_PREFIX,
    database_name,
    decode_database_name,
    user_document_id,
)
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.users.evidence import DocumentState, judge
from peruserd.couch.client import Client
from peruserd.couch.copies import SILENCE, copies_of
from peruserd.couch.errors import CouchError, NotFoundError, UnauthorizedError
from peruserd.couch.listing import databases_with, rows_of
from peruserd.couch.observing import ReadContents, open_observer
from peruserd.couch.sources import open_source

T = TypeVar("T")

# Users in one batch: so few that their first facts are still true when the last ones are read.
_BATCH: Final = 100

# Smaller batches would need too many requests for the documents of each part.
_LEAST_BATCH: Final = 10

# Batches for each thread, so that no thread works alone for long at the end.
_SHARES: Final = 4

# A difference is checked again after this. By then, as a rule, a new user is served and a copy has caught up.
_AGAIN_SECONDS: Final = 3.0

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 1.0


class Known(msgspec.Struct, frozen=True):
    """A named user: the state of the document, and whether the database exists.

    `silent` are the nodes whose copies of the document could not be read.
    """

    user: str
    state: DocumentState
    database: str
    database_exists: bool
    silent: tuple[str, ...] = ()


class Survey:
    """Looks at users through one client with a connection for each thread. Methods raise CouchError."""

    def __init__(
        self,
        client: Client,
        node: str,
        feed: Feed,
        auth_db: str,
        rules: Rules,
        threads: int,
        contents: ReadContents | None = None,
    ) -> None:
        self._client = client
        self._rules = rules
        self._threads = threads
        self._copy = Copy(auth_db, WHOLE_SPACE, node, feed=feed)
        # No copy is followed here, so an id counts if any copy has it.
        self._observer = open_observer(client, self._copy, rules.databases.prefix, contents)
        self._stopping = threading.Event()

    def users(self, progress: Progress) -> dict[str, bool]:
        """Return the ids of all user documents in any copy, with False for those that every copy shows as deleted.

        An unreadable copy is skipped if another copy of its range can be read.
        """
        found: dict[str, bool] = {}
        for copies in self._copies():
            trouble: CouchError | None = None
            is_read = False
            for copy in copies:
                try:
                    for rows in rows_of(open_source(copy, self._client)):
                        before = len(found)
                        for row in rows:
                            if _is_users(row.id):
                                found[row.id] = not row.deleted or found.get(row.id, False)
                        progress.advance(len(found) - before)
                    is_read = True
                except (UnauthorizedError, *SILENCE) as error:
                    trouble = error
            if trouble is not None and not is_read:
                raise trouble
        return found

    def databases(self) -> Iterator[str]:
        """Give the names of all databases with the prefix."""
        for names in databases_with(self._client, self._rules.databases.prefix):
            yield from names

    def nobodies(self, known: Collection[str], databases: Iterable[str]) -> list[str]:
        """Return the ids of users who have a database and whose document is not known."""
        prefix = self._rules.databases.prefix
        users = (decode_database_name(prefix, name) for name in databases)
        ids = (user_document_id(user) for user in users if user is not None)
        return [each for each in ids if each not in known]

    def differing(self, document_ids: Iterable[str], progress: Progress) -> list[Diagnosis]:
        """Return the diagnoses with findings, sorted by user.

        A difference that may pass by itself is checked twice. An unseen fact is not checked again: otherwise a node
        that is away would make every round a double one.
        """
        found = {each.user: each for each in self._diagnosed(document_ids, progress) if each.findings}
        doubtful = [user for user, each in found.items() if each.may_pass]
        if doubtful:
            announce(f"looking at {counted(len(doubtful), 'user')} once more, in {_AGAIN_SECONDS:g} s")
            time.sleep(_AGAIN_SECONDS)
        with Progress("users looked at again", len(doubtful)) as again:
            for each in self._diagnosed(map(user_document_id, doubtful), again):
                found[each.user] = seen_twice(found[each.user], each)
        return [found[user] for user in sorted(found) if found[user].findings]

    def at_once(self, document_ids: Iterable[str]) -> list[Diagnosis]:
        """Return the diagnoses with findings from a single look now."""
        return [each for each in self._diagnosed(document_ids, Progress("users")) if each.findings]

    def known(self, document_ids: Sequence[str]) -> list[Known]:
        """Return the present state of the documents and databases of these users."""
        return [
            known
            for ids in _batches(document_ids, _BATCH)
            for known in self._observer.observe_each(ids, lambda seen: _known(self._rules.databases.prefix, seen))
        ]

    def _copies(self) -> Iterator[list[Copy]]:
        if self._copy.feed is Feed.DATABASE:
            yield [self._copy]
            return
        shard_map = self._client.shard_map("_local", self._copy.database)
        if shard_map is None:
            raise NotFoundError(f"there is no database {self._copy.database}", "Database does not exist.")
        for covered in shard_map.hosts:
            yield copies_of(shard_map, [covered])

    def _diagnosed(self, document_ids: Iterable[str], progress: Progress) -> Iterator[Diagnosis]:
        def batch(ids: Sequence[str]) -> list[Diagnosis]:
            if self._stopping.is_set():
                return []
            found = self._tried(ids)
            progress.advance(len(ids))
            return found

        wanted = list(document_ids)
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for found in pool.map(batch, _batches(wanted, _batch_size(len(wanted), self._threads))):
                    yield from found
            except BaseException:
                self._stopping.set()
                raise

    def _tried(self, ids: Sequence[str]) -> list[Diagnosis]:
        for _ in range(_TRIES - 1):
            try:
                return self._observer.observe_each(ids, self._judged)
            except CouchError:
                self._stopping.wait(_PAUSE_SECONDS)
        return self._observer.observe_each(ids, self._judged)

    def _judged(self, seen: Observation) -> Diagnosis:
        return diagnose(seen, self._rules)


def _known(prefix: str, seen: Observation) -> Known:
    verdict = judge(seen.evidence)
    database = database_name(prefix, seen.user)
    return Known(seen.user, verdict.state, database, seen.copies is not None, verdict.silent)


def _is_users(document_id: str) -> bool:
    return document_id.startswith(USER_DOCUMENT_PREFIX) and len(document_id) <= MAX_ID_CHARACTERS


def _batch_size(users: int, threads: int) -> int:
    """Return how many users to observe at once: smaller parts for fewer users, so that all threads have work."""
    return min(_BATCH, max(_LEAST_BATCH, users // (threads * _SHARES)))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
