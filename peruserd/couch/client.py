"""The requests of peruserd to a CouchDB node, with types. Nothing here decides; most methods are one request."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from peruserd.core.cluster.lease_documents import FIRST_ID, LAST_ID, MAX_BYTES, MAX_LEASES, lease_id, read_leases
from peruserd.core.cluster.leases import Lease
from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.rows import FIRST_REVISION
from peruserd.core.ownership.ranges import ShardMap
from peruserd.couch.answers import Answer
from peruserd.couch.errors import NotFoundError, UnexpectedAnswerError
from peruserd.couch.missing import believe_missing, names_between
from peruserd.couch.paths import copy_path, map_path
from peruserd.couch.session import Session, quoted
from peruserd.couch.shapes import (
    Counts,
    Directory,
    LeaseListing,
    Listing,
    Membership,
    Named,
    RevisionsMissing,
    Setup,
    ShardMapDocument,
    Up,
    Welcome,
)


class Creation(Enum):
    """The result of a request to create a database."""

    CREATED = 201
    ACCEPTED = 202  # by a minority of the nodes; the others catch up later
    EXISTED = 412


class Removal(Enum):
    """The result of a request to delete a database."""

    DELETED = 200
    ACCEPTED = 202  # by a minority of the nodes; the others have it still
    ABSENT = 404  # somebody else deleted it, or this node does not know of it


SECURITY_BYTES: Final = 1 << 20
"""The limit of a security object. An admin of the database, such as its user, can make it as large as a request."""

# The number of databases in one request: an answer takes 25 ms, or 300 ms if each is looked up (measured).
MAX_NAMES: Final = 500

# This revision is later than every other, so the node answers with all revisions that it has.
_NO_REVISION: Final = "999999999-0"

# The statuses of a server or proxy that does not know a page. CouchDB 1.x and 2.x answer 400 (measured).
_NO_SUCH_PAGE: Final = frozenset({400, 404, 405, 501})

# The status of a proxy that closes a page.
_CLOSED_PAGE: Final = 403

# The statuses for a second page of a list. The first page has shown that the list exists, so 404 is a failure here.
_CLOSED_TO_QUESTIONS: Final = (_NO_SUCH_PAGE | {_CLOSED_PAGE}) - {404}


class Client:
    """One node's API, over one session.

    Without `directory` the client avoids the node's list of shard maps wherever another request will do.
    """

    def __init__(self, session: Session, *, directory: bool = True) -> None:
        self.session = session
        self.has_directory = directory

    def welcome(self) -> Welcome:
        """Return the server's own description."""
        return self.session.request("GET", "/").expect(200).decode(Welcome)

    def node_name(self, node: str = "_local") -> str | None:
        """Return the Erlang name of a node; None on a server without `/_node`."""
        answer = self.session.request("GET", f"/_node/{quoted(node)}")
        return None if answer.status in _NO_SUCH_PAGE else answer.expect(200).decode(Named).name

    def membership(self) -> Membership:
        """Return the connected nodes and the cluster's nodes."""
        return self.session.request("GET", "/_membership").expect(200).decode(Membership)

    def shard_map(self, node: str, database: str) -> ShardMap | None:
        """Return a database's shard map as `node` has it; None if there is no such database."""
        answer = self.session.request("GET", map_path(node, database))
        if answer.status == 404 and answer.reason in ("missing", "deleted"):
            believe_missing(self.session, database, answer)
            return None
        document = answer.expect(200).decode(ShardMapDocument)
        try:
            return ShardMap.build(database, document.suffix, document.hosts())
        except ValueError as error:
            raise UnexpectedAnswerError(f"{answer.request}: {error}") from error

    def shard_map_document(self, node: str, database: str) -> dict[str, Any]:
        """Return the document behind a database's shard map, as `node` keeps it."""
        return self.session.request("GET", map_path(node, database)).expect(200).decode(dict[str, Any])

    def database_exists(self, database: str) -> bool:
        """Say whether the database exists."""
        answer = self.session.request("GET", f"/{quoted(database)}").expect(200, 404)
        if answer.status == 404:
            believe_missing(self.session, database, answer)
        return answer.status == 200

    def create_database(self, database: str, options: DatabasesConfig) -> Creation:
        """Create a database; the result also says whether it existed."""
        params = {"q": str(options.q)}
        if options.n is not None:
            params["n"] = str(options.n)
        if options.placement is not None:
            params["placement"] = options.placement
        if options.partitioned:
            params["partitioned"] = "true"
        answer = self.session.request("PUT", f"/{quoted(database)}", params=params)
        # The path of a dead node answers 412 too, but on this path 412 only means file_exists.
        return Creation(answer.expect(201, 202, 412).status)

    def setup_state(self) -> str | None:
        """Return the state of the cluster's set-up in the server's words; None if the server does not tell."""
        answer = self.session.request("GET", "/_cluster_setup")
        return answer.decode(Setup).state if answer.status == 200 else None

    def put_document(self, database: str, document_id: str, content: Mapping[str, Any]) -> bool:
        """Write a new document; False if only a minority of its copies took it, or if there is one already."""
        path = f"/{quoted(database)}/{quoted(document_id)}"
        return self.session.request("PUT", path, body=content).expect(201, 202, 409).status == 201

    def delete_database(self, database: str) -> bool:
        """Delete a database; False if only a minority of the nodes did. A missing database counts as deleted."""
        return self.drop_database(database) is not Removal.ACCEPTED

    def drop_database(self, database: str) -> Removal:
        """Delete a database, and return the result."""
        answer = self.session.request("DELETE", f"/{quoted(database)}", prompt=True)
        if answer.status == 404:
            believe_missing(self.session, database, answer)
        return Removal(answer.expect(200, 202, 404).status)

    def documents_in(self, path: str) -> int:
        """Return the number of documents, including deleted ones, of the database or copy at this quoted path, or more.

        PouchDB Server does not count deleted documents, but it counts changes.
        """
        found = self.session.request("GET", path).expect(200).decode(Counts)
        if found.doc_del_count is not None:
            return found.doc_count + found.doc_del_count
        return max(found.doc_count, found.update_seq) if isinstance(found.update_seq, int) else found.doc_count + 1

    def security(self, database: str) -> dict[str, Any]:
        """Read a database's security object. The answer is that of one copy, so it cannot show that copies differ.

        Raises NotFoundError if there is no such database.
        """
        answer = self.session.request("GET", f"/{quoted(database)}/_security", limit_bytes=SECURITY_BYTES)
        if answer.status == 404:
            believe_missing(self.session, database, answer)
        return answer.expect(200).decode(dict[str, Any])

    def put_security(self, database: str, security: Mapping[str, Any]) -> None:
        """Write a database's security object; returns only if a majority of the copies took it."""
        self.session.request("PUT", f"/{quoted(database)}/_security", body=security, prompt=True).expect(200)

    def document_exists(self, database: str, document_id: str) -> bool:
        """Say whether a clustered read shows the document. This is for people, and proves nothing."""
        return self.session.request("HEAD", f"/{quoted(database)}/{quoted(document_id)}").expect(200, 404).status == 200

    def missing_databases(self, names: Iterable[str], *, remade: bool = False) -> set[str] | None:
        """Return which of some databases (`MAX_NAMES` or so) are missing; None if the server has no such page.

        With `remade` the result also has the databases whose map has changed since it was first made.

        The node's own list of shard maps is asked. `_dbs_info` would open every copy of each database. That takes many
        times as long if there are more databases than a node keeps open (measured).

        `_revs_diff` finds the revisions of all maps in one walk through the list. `_all_docs` looks up one map after
        the other, and takes ten times as long (measured). But `_revs_diff` does not say which maps are deleted. Only a
        map that has changed since it was made can be deleted, so only these are looked up.
        """
        if not self.has_directory:
            return None
        asked = list(names)
        body = dict.fromkeys(asked, (_NO_REVISION,))
        answer = self.session.request("POST", "/_node/_local/_dbs/_revs_diff", body=body)
        if answer.status in _NO_SUCH_PAGE or answer.status == _CLOSED_PAGE:
            return None
        found = answer.expect(200).decode(dict[str, RevisionsMissing])
        revisions = {name: each.possible_ancestors for name, each in found.items()}
        known = {name for name in asked if revisions.get(name)}
        changed = {name for name in known if not any(each.startswith(FIRST_REVISION) for each in revisions[name])}
        gone = changed if remade else self._deleted_databases(changed)
        return None if gone is None else set(asked) - known | gone

    def _deleted_databases(self, names: Iterable[str]) -> set[str] | None:
        if not (keys := sorted(names)):
            return set()
        answer = self.session.request("POST", "/_node/_local/_dbs/_all_docs", body={"keys": keys})
        if answer.status in _CLOSED_TO_QUESTIONS:
            return None
        rows = answer.expect(200).decode(Directory).rows
        return set(keys) - {each.key for each in rows if each.value is not None and not each.value.deleted}

    def put_lease(self, database: str, lease: Lease) -> None:
        """Write a lease over the old one, on every copy that can be reached."""
        path = _local_path(database, lease_id(lease.node, lease.role))
        self.session.request("PUT", path, body=lease).expect(201, 202)

    def leases(self, database: str) -> tuple[Lease, ...]:
        """Return all leases, each from some copy.

        Every answer but a list raises CouchError, and no such answer means that there are no leases. Each server with
        shards lists local documents. So a 404 or 405 comes from a proxy, or from a node without the database. More
        leases than possible are an error too, because a lease that was left out would seem to be silent.
        """
        answer = self._local_docs(database, include_docs=True)
        rows = answer.expect(200).decode(LeaseListing).rows
        if len(rows) > MAX_LEASES:
            raise UnexpectedAnswerError(f"{answer.request}: more than {MAX_LEASES:,} documents that look like leases")
        return read_leases(rows)

    def lease_ids(self, database: str) -> list[str]:
        """Return the ids of all documents in the place of leases, with any content; one more than possible at most."""
        rows = self._local_docs(database, include_docs=False).expect(200).decode(LeaseListing).rows
        return [each.id for each in rows]

    def _local_docs(self, database: str, *, include_docs: bool) -> Answer:
        params = _ALL_LEASES | {"include_docs": "true" if include_docs else "false"}
        path = f"/{quoted(database)}/_local_docs"
        return self.session.request("GET", path, params=params, limit_bytes=_LEASES_BYTES)

    def delete_local(self, database: str, document_id: str) -> None:
        """Delete a local document from every copy that can be reached; a missing one counts as deleted."""
        self.session.request("DELETE", _local_path(database, document_id)).expect(200, 202, 404)

    def setting(self, node: str, section: str, key: str) -> str | None:
        """Return a setting in force on a node; None if it is not set."""
        path = f"/_node/{quoted(node)}/_config/{quoted(section)}/{quoted(key)}"
        try:
            return self.session.request("GET", path).expect(200).decode(str)
        except NotFoundError as error:
            if error.reason == "unknown_config_value":
                return None
            raise

    def in_maintenance(self) -> bool:
        """Say whether the node has been taken out of service."""
        return self.session.request("GET", "/_up").expect(200, 404).decode(Up).status == "maintenance_mode"

    def count_user_documents(self, database: str) -> int:
        """Return the number of user documents in the authentication database: all but its design documents."""
        return self._count_documents(f"/{quoted(database)}")

    def count_copy_documents(self, copy: Copy) -> int:
        """Return the number of documents in one copy of a shard: all but its design documents."""
        return self._count_documents(copy_path(copy))

    def _count_documents(self, path: str) -> int:
        total = self.session.request("GET", path).expect(200).decode(Counts).doc_count
        keys = {"start_key": '"_design/"', "end_key": '"_design0"'}
        designs = self.session.request("GET", f"{path}/_all_docs", params=keys).expect(200).decode(Listing)
        return total - len(designs.rows)

    def copy_is_untouched(self, copy: Copy) -> bool:
        """Say whether one copy of a shard has no document, not even a deleted one."""
        return self.documents_in(copy_path(copy)) == 0

    def copy_security(self, copy: Copy) -> dict[str, Any]:
        """Read the security object of one copy of a shard."""
        return self.session.request("GET", f"{copy_path(copy)}/_security").expect(200).decode(dict[str, Any])

    def copy_document(self, copy: Copy, document_id: str) -> dict[str, Any] | None:
        """Read a document from one copy of a shard; None if that copy has none, or only a tombstone."""
        try:
            answer = self.session.request("GET", f"{copy_path(copy)}/{quoted(document_id)}").expect(200)
        except NotFoundError as error:
            if error.reason in ("missing", "deleted"):
                return None
            raise
        document = answer.decode(dict[str, Any])
        if document.get("_id") != document_id:
            raise UnexpectedAnswerError(f"{answer.request}: the answer is not the document asked for")
        return document

    def databases(self, *, start_key: str, end_key: str, limit: int) -> list[str]:
        """Return the names of the databases from `start_key` up to `end_key`, at most `limit`, ascending."""
        return names_between(self.session, start_key, end_key, limit=limit)


NO_DATABASE: Final = "Database does not exist."
"""CouchDB's reason for a missing database. A page that it does not have gives another reason."""

_ALL_LEASES: Final = {
    "start_key": f'"{FIRST_ID}"',
    "end_key": f'"{LAST_ID}"',
    "limit": str(MAX_LEASES + 1),
}

# Twice the size of the longest possible list of leases.
_LEASES_BYTES: Final = 2 * MAX_LEASES * MAX_BYTES


def _local_path(database: str, document_id: str) -> str:
    prefix, _, name = document_id.partition("/")
    return f"/{quoted(database)}/{prefix}/{quoted(name)}"
