"""The simulated cluster's state as clients see it, without sockets: requests of peruserd are answered at once.

The answers, also during a cut between nodes, come from `peruserd.simcluster`. The contract tests compare those with
recorded exchanges of a real cluster. The witness is told every read and write of an act.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from peruserd.core.cluster.cluster_database import MARKER
from peruserd.core.cluster.lease_documents import LeaseRow, lease_id, read_leases
from peruserd.core.cluster.leases import Lease
from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Leaf, Page, Row
from peruserd.core.ownership.ranges import ShardMap
from peruserd.couch import errors
from peruserd.couch.answers import Answer
from peruserd.couch.client import Client, Creation
from peruserd.couch.session import Session
from peruserd.couch.shapes import Counts, Membership
from peruserd.simcluster.model import documents, ids
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.errors import RefusalError, no_shard, node_down
from peruserd.simcluster.model.nodes import Node
from tests.model.acts import Fate, fate_of_request
from tests.model.places import as_shard_map
from tests.model.witness import ObservedCluster

T = TypeVar("T")

LEASES = "peruserd"


class ModelClient(Client):
    """The model's stand-in for `peruserd.couch.client.Client`, at one node."""

    has_directory = True

    def __init__(self, model: ObservedCluster, node: Node) -> None:
        self._model = model
        self._node = node
        self._witness = model.witness
        self.session = ModelSession(self, model, node)

    def node_name(self, _node: str = "_local") -> str:
        return self.request(lambda: self._node.name)

    def membership(self) -> Membership:
        names = tuple(sorted(node.name for node in self._model.nodes))
        connected = self.request(lambda: tuple(sorted(node.name for node in self._model.reachable(self._node))))
        return Membership(connected, names)

    def shard_map(self, node: str, database: str) -> ShardMap | None:
        document = self.request(lambda: self._host(node).database(database))
        return None if document is None else as_shard_map(document)

    def setup_state(self) -> str:
        return "cluster_finished"

    def database_exists(self, database: str) -> bool:
        return self.request(lambda: self._node.database(database) is not None)

    def copy_document(self, copy: Copy, document_id: str) -> dict[str, Any] | None:
        leaves = self.request(lambda: self._copy(copy).leaves(document_id))
        return leaves[0].body if leaves and not leaves[0].deleted else None

    def copy_is_untouched(self, copy: Copy) -> bool:
        return self.request(lambda: not self._copy(copy).docs)

    def copy_security(self, copy: Copy) -> dict[str, Any]:
        found: dict[str, Any] = self.request(lambda: self._copy(copy).security)
        return found

    def put_document(self, database: str, document_id: str, content: Mapping[str, Any]) -> bool:
        _, agreed = self.request(
            lambda: documents.write(self._model, self._node, database, document_id, None, dict(content))
        )
        return agreed

    def delete_local(self, database: str, document_id: str) -> None:
        self.request(lambda: documents.delete_local(self._model, self._node, database, document_id))

    def leases(self, database: str) -> tuple[Lease, ...]:
        found = self.request(lambda: documents.list_local(self._model, self._node, database))
        return read_leases(LeaseRow(name, msgspec.Raw(msgspec.json.encode(local.body))) for name, local in found)

    def put_lease(self, database: str, lease: Lease) -> None:
        name = lease_id(lease.node, lease.role)
        body = msgspec.to_builtins(lease)
        self.request(lambda: documents.write_local(self._model, self._node, database, name, None, body))

    def create_database(self, database: str, options: DatabasesConfig) -> Creation:
        def create() -> bool:
            n = options.n or len(self._model.nodes)
            agreed = self._model.create_database(self._node, database, q=options.q, n=n)
            self._witness.created(database)
            return agreed

        self._witness.creates(database)
        try:
            agreed = self.request(create)
        except FileExistsError:
            return Creation.EXISTED
        return Creation.CREATED if agreed else Creation.ACCEPTED

    def security(self, database: str) -> dict[str, Any]:
        def read() -> tuple[str, dict[str, Any]]:
            self._model.map_of(self._node, database)
            copy = self._model.covering(self._node, database)[-1]
            return copy.node, copy.security

        node, found = self.request(read)
        self._witness.reads(database, node, found)
        return found

    def put_security(self, database: str, security: Mapping[str, Any]) -> None:
        def write() -> None:
            if self._node.database(database) is not None:
                self._witness.writes(database, self._model.copies_of(self._node, database), dict(security))
            documents.write_security(self._model, self._node, database, dict(security))

        self._witness.tries_to_write(database)
        self.request(write)

    def missing_databases(self, names: Iterable[str], *, remade: bool = False) -> set[str]:
        def is_wanted(name: str) -> bool:
            document = self._node.maps.get(name)
            return document is None or document.current is None or (remade and document.events > 1)

        return self.request(lambda: set(filter(is_wanted, names)))

    def databases(self, *, start_key: str, end_key: str, limit: int) -> list[str]:
        return self.request(lambda: [each for each in self._node.names if start_key <= each <= end_key][:limit])

    def documents_in(self, path: str) -> int:
        return self.session.request("GET", path).expect(200).decode(Counts).doc_count

    def _host(self, name: str) -> Node:
        host = self._node if name == "_local" else self._model.by_name[name]
        if host not in self._model.reachable(self._node):
            raise node_down(name)
        return host

    def _copy(self, copy: Copy) -> ShardCopy:
        found = self._host(copy.node).shards.get(copy.shard_name)
        if found is None:
            raise no_shard()
        return found

    def request(self, ask: Callable[[], T], what: str = "") -> T:
        """Make a request; an action waits before it until the test goes on."""
        fate = fate_of_request(what)
        self._witness.requests()
        if fate is Fate.REFUSED:
            raise errors.ServerError("refused")
        if not self._node.alive:
            raise errors.UnreachableError(f"{self._node.name} is down")
        try:
            answer = ask()
        except RefusalError as error:
            raise _translated(error) from error
        if fate is Fate.LOST:
            raise errors.TimedOutError("the answer got lost")
        return answer


class ModelSession(Session):
    """The requests of `peruserd.couch.copies` to single shard copies, answered through one node."""

    def __init__(self, client: ModelClient, model: ObservedCluster, node: Node) -> None:
        self._client = client
        self._model = model
        self._node = node

    def request(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, str] | None = None, **_bounds: Any
    ) -> Answer:
        if path == "/_node/_local/_dbs/_all_docs":
            return _answered(method, path, self._client.request(lambda: self._maps(body)))
        if path.startswith("/_node/_local/_dbs/"):
            return _answered(method, path, self._client.request(lambda: self._map(unquote(path.rpartition("/")[2]))))
        if path.startswith(f"/{LEASES}/"):
            status, found = self._client.request(lambda: self._of_own_database(method), f"{method} {path}")
            return Answer(f"{method} {path}", status, msgspec.json.encode(found))
        _, _, host, shard, *more = map(unquote, path.split("/"))
        what = more[0] if more else ""
        database = shard.rsplit("/", 1)[1].partition(".")[0]
        if method == "PUT":
            self._model.witness.tries_to_write(database)
        status, found = self._client.request(
            lambda: self._answer(method, host, shard, what, body or params), f"{method} {path}"
        )
        if (method, what, status) == ("GET", "_security", 200):
            self._model.witness.reads(database, host, found)
        return Answer(f"{method} {path}", status, msgspec.json.encode(found))

    def _of_own_database(self, method: str) -> tuple[int, Any]:
        """Answer the probe: its read of the marker, and its write by a majority or only a minority."""
        if method == "GET":
            return 200, MARKER
        is_most = 2 * len(set(self._model.reachable(self._node))) > len(self._model.by_name)
        return 201 if is_most else 202, {"ok": True}

    def _maps(self, body: Any) -> dict[str, Any]:
        rows = []
        for name in body["keys"]:
            document = self._node.database(name)
            found = {"error": "not_found"} if document is None else {"doc": document.as_json()}
            rows.append({"key": name, **found})
        return {"rows": rows}

    def _map(self, name: str) -> list[dict[str, Any]]:
        document = self._node.maps.get(name)
        is_gone = document is not None and document.current is None
        self._model.witness.learns_of_removal(name, known=is_gone)
        return [] if document is None else [{"ok": document.as_leaf()}]

    def _answer(self, method: str, host: str, shard: str, what: str, body: Any) -> tuple[int, Any]:
        node = self._model.by_name[host]
        if node not in self._model.reachable(self._node):
            return 412, {"error": "nodedown", "reason": host}
        copy = node.shards.get(shard)
        if copy is None:
            return 404, {"error": "not_found", "reason": "no_db_file"}
        database = shard.rsplit("/", 1)[1].partition(".")[0]
        match method, what:
            case "POST", "_all_docs":
                return 200, {"rows": [_row(copy, key) for key in body["keys"]]}
            case "POST", "_revs_diff":
                missing = {key: [rev for rev in revs if rev not in _known(copy, key)] for key, revs in body.items()}
                return 200, {key: {"missing": revs} for key, revs in missing.items() if revs}
            case "GET", "":
                counts = {"doc_count": copy.doc_count, "doc_del_count": copy.deleted_count}
                return 200, {"uuid": copy.uuid, "update_seq": copy.update_seq, **counts}
            case "GET", "_changes":
                return 200, _changes(copy, int(body["since"]), int(body["limit"]))
            case "GET", "_security":
                return 200, copy.security
            case "PUT", "_security":
                self._model.witness.writes(database, [copy], dict(body))
                copy.set_security(dict(body))
                return 200, {"ok": True}
        raise AssertionError(f"{method} {what}")


def _answered(method: str, path: str, found: Any) -> Answer:
    return Answer(f"{method} {path}", 200, msgspec.json.encode(found))


def _changes(copy: ShardCopy, since: int, limit: int) -> dict[str, Any]:
    rows = copy.rows(since, limit)
    results = [
        {
            "seq": seq,
            "id": ids.shown(document_id),
            "changes": [{"rev": leaves[0].rev}],
            **({"deleted": True} if leaves[0].deleted else {}),
        }
        for seq, document_id, leaves in rows
    ]
    return {"results": results, "last_seq": rows[-1][0] if rows else since}


def _row(copy: ShardCopy, document_id: str) -> dict[str, Any]:
    leaves = copy.leaves(document_id)
    if leaves is None:
        return {"key": document_id, "error": "not_found"}
    value: dict[str, Any] = {"rev": leaves[0].rev}
    if leaves[0].deleted:
        value["deleted"] = True
    return {"id": document_id, "key": document_id, "value": value}


def _known(copy: ShardCopy, document_id: str) -> set[str]:
    return {rev for leaf in copy.leaves(document_id) or () for rev in (leaf.rev, *leaf.ancestors)}


def _translated(error: RefusalError) -> Exception:
    if error.error == "file_exists":
        return FileExistsError(str(error))
    if error.error == "nodedown":
        return errors.NodeDownError(str(error))
    if error.error == "conflict":
        return errors.ConflictError(str(error))
    if error.reason == "no_majority":
        return errors.NoMajorityError(str(error))
    if error.status == 404:
        return errors.NotFoundError(str(error), error.reason or "")
    return errors.ServerError(str(error))


class ModelSource:
    """A change source on one shard copy of the model, read through a node; ids are shown as CouchDB shows them."""

    def __init__(self, model: ObservedCluster, node: Node, copy: Copy) -> None:
        self._model = model
        self._node = node
        self._copy = copy

    def identify(self) -> Identity:
        copy = self._open()
        return Identity(copy.uuid, copy.update_seq)

    def page(self, since: int, limit: int = 1000) -> Page:
        rows = [
            Row(seq, ids.shown(document_id), leaves[0].deleted, (Leaf(leaves[0].rev),))
            for seq, document_id, leaves in self._open().rows(since, limit)
        ]
        return Page(rows, rows[-1].seq if rows else since)

    def _open(self) -> ShardCopy:
        if not self._node.alive:
            raise errors.UnreachableError(f"{self._node.name} is down")
        host = self._model.by_name[self._copy.node]
        if host not in self._model.reachable(self._node):
            raise errors.NodeDownError(host.name)
        copy = host.shards.get(self._copy.shard_name)
        if copy is None:
            raise errors.NotFoundError("no such shard", "no_db_file")
        return copy
