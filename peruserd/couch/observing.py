"""Observing many users at once: their documents, databases and security objects, each copy by itself.

The requests for some hundred users are:

- one for each copy of the authentication database,
- one for all shard maps,
- one for each copy of each database,
- with templates, one more for the documents of each database, and for each option one for each copy and one for the
  map.

Nothing here decides; `core.audit.diagnosis` does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec

from peruserd.core.audit.diagnosis import Observation, Shape, has_document, lacks, unpadded_name
from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.names import UnservableNameError, database_name, user_name
from peruserd.core.ownership.ranges import ShardMap
from peruserd.core.users.contents import Contents
from peruserd.core.users.evidence import DocumentState, Evidence, judge
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.security import Security
from peruserd.couch.client import Client
from peruserd.couch.copies import SILENCE, Copies, Place, open_copies, places_of
from peruserd.couch.errors import (
    ConflictError,
    NodeDownError,
    NotFoundError,
    RejectedError,
    ServerError,
    TimedOutError,
    TooLargeError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from peruserd.couch.session import quoted
from peruserd.couch.shapes import ShardMapDocument

T = TypeVar("T")

ReadContents: TypeAlias = Callable[[str, str], Contents]
"""Reads the templates' documents and options in a user's database; gets both names. Raises CouchError."""

MAX_USERS: Final = 500
"""The number of users to observe at once: CouchDB looks up so many keys in a third of a second."""


# Failures that concern what was asked for, and nobody else: a damaged file, a path that a proxy does not like.
_OF_ONE: Final = (ConflictError, RejectedError, UnauthorizedError, *SILENCE)


class DatabasePlaces(msgspec.Struct, frozen=True):
    """The places of a database's copies, and how the database was made, if the server tells."""

    places: tuple[Place, ...]
    shape: Shape | None = None


class Directory(Protocol):
    """Finds out which of some databases exist, and where their copies are."""

    def find(self, names: Sequence[str]) -> Mapping[str, DatabasePlaces]:
        """Return the databases that exist; raises CouchError."""


class ShardDirectory:
    """The shard maps of one node; one request reads those of many databases."""

    def __init__(self, client: Client, node: str = "_local") -> None:
        self._client = client
        self._path = f"/_node/{quoted(node)}/_dbs/_all_docs"

    def find(self, names: Sequence[str]) -> dict[str, DatabasePlaces]:
        """Return the databases that exist. If an answer is too large, because maps have many ranges, ask for fewer."""
        if not names:
            return {}
        try:
            answer = self._client.session.request(
                "POST", self._path, params={"include_docs": "true"}, body={"keys": list(names)}
            )
        except TooLargeError:
            if len(names) == 1:
                raise
            half = len(names) // 2
            return {**self.find(names[:half]), **self.find(names[half:])}
        rows = answer.expect(200).decode(_Maps).rows
        if [each.key for each in rows] != list(names):
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not about the databases asked for")
        try:
            return {each.key: _database_places(each.key, each.doc) for each in rows if each.doc is not None}
        except ValueError as error:
            raise UnexpectedAnswerError(f"{answer.request}: {error}") from error


class SingleDirectory:
    """A server without shards: each database takes one request, and has one copy."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node

    def find(self, names: Sequence[str]) -> dict[str, DatabasePlaces]:
        """Return these databases without those that the server calls missing. A failure calls none missing."""
        return {
            each: DatabasePlaces((Place(self._node, f"/{quoted(each)}"),)) for each in names if self._may_exist(each)
        }

    def _may_exist(self, name: str) -> bool:
        try:
            return self._client.database_exists(name)
        except (ConflictError, RejectedError, ServerError, UnauthorizedError):
            return True


class Observer:
    """Observes users, from any number of threads; without `contents` templates are left out."""

    def __init__(self, copies: Copies, directory: Directory, prefix: str, contents: ReadContents | None = None) -> None:
        self._copies = copies
        self._directory = directory
        self._prefix = prefix
        self._contents = contents

    def observe(self, document_ids: Iterable[str], then: Callable[[Observation], T]) -> list[T]:
        """Return the results of `then` for these users; users whose name can have no database are left out.

        Only one user's security objects are in memory at a time, because users decide how large these are. Raises
        CouchError.
        """
        names = {each: known for each in document_ids if (known := self._names(each)) is not None}
        if not names:
            return []
        evidences = self._copies.evidences(names)
        wanted = {name for database, unpadded in names.values() for name in (database, unpadded) if name is not None}
        found = self._directory.find(sorted(wanted))
        away: dict[str, bool] = {}
        return [
            then(
                self._observation(
                    each, evidences[each], found.get(database), unpadded if unpadded in found else None, away
                )
            )
            for each, (database, unpadded) in names.items()
        ]

    def observe_each(self, document_ids: Sequence[str], then: Callable[[Observation], T]) -> list[T]:
        """Do the same as `observe`. A user with a useless answer only has no evidence, and affects no other user."""
        try:
            return self.observe(document_ids, then)
        except (TooLargeError, UnexpectedAnswerError):
            if len(document_ids) == 1:
                return [then(Observation(user_name(document_ids[0]) or "", Evidence(frozenset(), ())))]
            half = len(document_ids) // 2
            return self.observe_each(document_ids[:half], then) + self.observe_each(document_ids[half:], then)

    def unknown_documents(self, document_ids: Iterable[str]) -> list[str]:
        """Return the documents that no readable copy knows; raises CouchError."""
        evidences = self._copies.evidences(document_ids)
        return [each for each, found in evidences.items() if all(one.winner is None for one in found.readings)]

    def lacking(self, document_ids: Iterable[str], node: str) -> dict[str, bool]:
        """Return the documents of which the copy on `node` lacks what another copy shows; raises CouchError.

        The value says whether the copy on `node` has the document in another state.
        """
        evidences = self._copies.evidences(document_ids)
        return {each: has_document(found, node) for each, found in evidences.items() if lacks(found, node)}

    def _names(self, document_id: str) -> tuple[str, str | None] | None:
        user = user_name(document_id)
        if user is None:
            return None
        try:
            return database_name(self._prefix, user), unpadded_name(self._prefix, user)
        except UnservableNameError:
            return None

    def _observation(
        self,
        document_id: str,
        evidence: Evidence,
        where: DatabasePlaces | None,
        unpadded: str | None,
        away: dict[str, bool],
    ) -> Observation:
        """Observe one user; `away` has the nodes that did not answer, and whether that was a time-out."""
        user = user_name(document_id) or ""
        if where is None:
            return Observation(user, evidence, unpadded=unpadded)
        copies = []
        too_large = gone = 0
        for place in where.places:
            found: Security | None = None
            lost = False
            try:
                found = None if place.node in away else self._copies.security_of(place)
            except TooLargeError:
                too_large += 1
            except NotFoundError as error:
                gone += error.is_of_database
                lost = error.is_of_file
            except (NodeDownError, TimedOutError) as error:
                # Without this, each user would wait for the node once more.
                away[place.node] = isinstance(error, TimedOutError)
            except _OF_ONE:
                pass
            copies.append(CopyReading(place.node, found, place.path, lost))
        # The database was deleted after its map was read. `places` can be empty, because somebody may have edited the
        # map.
        if where.places and gone == len(where.places):
            return Observation(user, evidence, None, where.shape, bool(too_large), unpadded)
        contents, unread = None, ""
        # After a time-out of a node, another request would wait for it once more.
        if judge(evidence).state is DocumentState.LIVE and not any(away.get(each.node) for each in where.places):
            contents, unread = self._templated(user)
        return Observation(
            user, evidence, tuple(copies), where.shape, bool(too_large), unpadded, contents, contents_unread=unread
        )

    def _templated(self, user: str) -> tuple[Contents | None, str]:
        """Return the contents of templates in the user's database, and why these could not be read."""
        if self._contents is None:
            return None, ""
        try:
            return self._contents(user, database_name(self._prefix, user)), ""
        except NotFoundError as error:
            return None, "" if error.is_of_database else str(error)
        except (TooLargeError, *_OF_ONE) as error:
            return None, str(error)


def open_observer(client: Client, followed: Copy, prefix: str, contents: ReadContents | None = None) -> Observer:
    """Return the observer for the kind of server that a listener follows."""
    directory = SingleDirectory(client, followed.node) if followed.feed is Feed.DATABASE else ShardDirectory(client)
    return Observer(open_copies(client, followed), directory, prefix, contents)


class _Props(msgspec.Struct, frozen=True):
    partitioned: bool = False


class _MapDocument(ShardMapDocument, frozen=True):
    props: _Props = _Props()


class _MapRow(msgspec.Struct, frozen=True):
    key: str
    doc: _MapDocument | None = None


class _Maps(msgspec.Struct, frozen=True):
    rows: list[_MapRow]


def _database_places(database: str, document: _MapDocument) -> DatabasePlaces:
    shard_map = ShardMap.build(database, document.suffix, document.hosts())
    return DatabasePlaces(places_of(shard_map, shard_map.hosts), _shape(shard_map, document))


def _shape(shard_map: ShardMap, document: _MapDocument) -> Shape | None:
    if not shard_map.hosts:
        return None
    ranges = list(shard_map.hosts)
    is_split = any(first.end >= second.begin for first, second in pairwise(ranges))
    copies = min(len(nodes) for nodes in shard_map.hosts.values())
    return Shape(None if is_split else len(ranges), copies, document.props.partitioned)
