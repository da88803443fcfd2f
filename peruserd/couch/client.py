"""The requests peruserd makes of a CouchDB node, typed. Nothing here decides; each method is one request."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from peruserd.core.config import DatabasesConfig
from peruserd.core.ranges import ShardMap
from peruserd.core.views import Copy
from peruserd.couch.errors import NotFoundError, UnexpectedAnswerError
from peruserd.couch.session import Session, quoted


class Welcome(msgspec.Struct, frozen=True):
    """What a server says of itself at `/`."""

    version: str = "unknown"
    couchdb: str | None = None


class Membership(msgspec.Struct, frozen=True):
    """`all_nodes` are connected now, `cluster_nodes` belong to the cluster."""

    all_nodes: tuple[str, ...]
    cluster_nodes: tuple[str, ...]

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the nodes that belong are connected."""
        return 2 * len(set(self.all_nodes).intersection(self.cluster_nodes)) > len(self.cluster_nodes)


class Creation(Enum):
    """How a request to create a database ended."""

    CREATED = 201
    ACCEPTED = 202  # by a minority of the nodes; the others catch up later
    EXISTED = 412


class _Named(msgspec.Struct, frozen=True):
    name: str


class _ShardMapDocument(msgspec.Struct, frozen=True):
    shard_suffix: list[int]
    by_range: dict[str, list[str]]


class _Count(msgspec.Struct, frozen=True):
    doc_count: int


class _Listing(msgspec.Struct, frozen=True):
    rows: list[msgspec.Raw]


class Client:
    """One node's API, over one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def welcome(self) -> Welcome:
        """Ask the server what it is."""
        return self.session.request("GET", "/").expect(200).decode(Welcome)

    def node_name(self, node: str = "_local") -> str | None:
        """Return the Erlang name of a node, or None on a server that has no `/_node` at all."""
        try:
            return self.session.request("GET", f"/_node/{quoted(node)}").expect(200).decode(_Named).name
        except NotFoundError:
            return None

    def membership(self) -> Membership:
        """Return the nodes that are connected and those that belong."""
        return self.session.request("GET", "/_membership").expect(200).decode(Membership)

    def shard_map(self, node: str, database: str) -> ShardMap | None:
        """Return a database's shard map as `node` has it, or None where there is no such database."""
        path = f"/_node/{quoted(node)}/_dbs/{quoted(database)}"
        try:
            answer = self.session.request("GET", path).expect(200)
        except NotFoundError as error:
            if error.reason in ("missing", "deleted"):
                return None
            raise
        document = answer.decode(_ShardMapDocument)
        try:
            return ShardMap.build(database, bytes(document.shard_suffix).decode("ascii"), document.by_range)
        except ValueError as error:
            raise UnexpectedAnswerError(f"{answer.request}: {error}") from error

    def database_exists(self, database: str) -> bool:
        """Say whether there is such a database."""
        return self.session.request("HEAD", f"/{quoted(database)}").expect(200, 404).status == 200

    def create_database(self, database: str, options: DatabasesConfig) -> Creation:
        """Create a database, or learn that it exists."""
        params = {"q": str(options.q)}
        if options.n is not None:
            params["n"] = str(options.n)
        if options.placement is not None:
            params["placement"] = options.placement
        if options.partitioned:
            params["partitioned"] = "true"
        answer = self.session.request("PUT", f"/{quoted(database)}", params=params)
        # 412 is also what a dead node's path answers, but not this path: here it only means file_exists.
        return Creation(answer.expect(201, 202, 412).status)

    def delete_database(self, database: str) -> bool:
        """Delete a database; False where only a minority of the nodes did. One that is not there is deleted."""
        return self.session.request("DELETE", f"/{quoted(database)}").expect(200, 202, 404).status != 202

    def security(self, database: str) -> dict[str, Any]:
        """Read a database's security object (from one copy: it cannot show that copies disagree)."""
        return self.session.request("GET", f"/{quoted(database)}/_security").expect(200).decode(dict[str, Any])

    def put_security(self, database: str, security: Mapping[str, Any]) -> None:
        """Write a database's security object; returns only where a majority of the copies has it."""
        self.session.request("PUT", f"/{quoted(database)}/_security", body=security).expect(200)

    def document_is_deleted(self, database: str, document_id: str, *, quorum: int) -> bool:
        """Read a document from `quorum` copies and say whether it is deleted; False where it lives or never was."""
        path = f"/{quoted(database)}/{quoted(document_id)}"
        try:
            self.session.request("GET", path, params={"r": str(quorum)}).expect(200)
        except NotFoundError as error:
            return error.reason == "deleted"
        return False

    def count_user_documents(self, database: str) -> int:
        """Return how many user documents the authentication database has: all but its design documents."""
        path = f"/{quoted(database)}"
        total = self.session.request("GET", path).expect(200).decode(_Count).doc_count
        keys = {"start_key": '"_design/"', "end_key": '"_design0"'}
        designs = self.session.request("GET", f"{path}/_all_docs", params=keys).expect(200).decode(_Listing)
        return total - len(designs.rows)

    def count_copy_documents(self, copy: Copy) -> int:
        """Return how many documents one copy of a shard has, design documents included."""
        path = f"/_node/{quoted(copy.node)}/{quoted(copy.shard_name)}"
        return self.session.request("GET", path).expect(200).decode(_Count).doc_count

    def databases(self, *, start_key: str, end_key: str, limit: int) -> list[str]:
        """Return the names of the databases from `start_key` up to `end_key`, at most `limit`, ascending."""
        params = {
            "start_key": msgspec.json.encode(start_key).decode(),
            "end_key": msgspec.json.encode(end_key).decode(),
            "limit": str(limit),
        }
        return self.session.request("GET", "/_all_dbs", params=params).expect(200).decode(list[str])
