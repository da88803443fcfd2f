"""The simulated cluster's state as clients see it, without sockets: the requests that peruserd makes, answered at once.

What is answered, and what a cut between the nodes does to it, is `peruserd.simcluster`'s, which replays the recorded
exchanges of a real cluster in the contract tests.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from peruserd.core.config import DatabasesConfig
from peruserd.core.decision import CopyReading
from peruserd.core.evidence import Evidence, Reading, Winner
from peruserd.core.hashing import document_hash
from peruserd.core.lease_documents import LeaseRow, lease_id, read_leases
from peruserd.core.leases import Lease
from peruserd.core.progress import Identity
from peruserd.core.ranges import ShardMap
from peruserd.core.views import Copy
from peruserd.couch import errors
from peruserd.couch.client import Creation, Membership
from peruserd.couch.sources import Page, Row
from peruserd.simcluster import documents
from peruserd.simcluster.copies import ShardCopy
from peruserd.simcluster.errors import RefusalError, no_shard, node_down
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from tests.model.acts import Fate, fate_of_request

T = TypeVar("T")

AUTH_DB = "_users"
LEASES = "peruserd"


class ModelClient:
    """What `peruserd.couch.client.Client` is to a node, on the model."""

    def __init__(self, model: ClusterModel, node: Node) -> None:
        self._model = model
        self._node = node

    def node_name(self, _node: str = "_local") -> str:
        return self._request(lambda: self._node.name)

    def membership(self) -> Membership:
        names = tuple(sorted(node.name for node in self._model.nodes))
        connected = self._request(lambda: tuple(sorted(node.name for node in self._model.reachable(self._node))))
        return Membership(connected, names)

    def shard_map(self, node: str, database: str) -> ShardMap | None:
        document = self._request(lambda: self._host(node).database(database))
        if document is None or document.current is None:
            return None
        hosts = {str(covered): nodes for covered, nodes in document.hosts.items()}
        return ShardMap.build(database, document.current.suffix, hosts)

    def setup_state(self) -> str:
        return "cluster_finished"

    def database_exists(self, database: str) -> bool:
        return self._request(lambda: self._node.database(database) is not None)

    def copy_document(self, copy: Copy, document_id: str) -> dict[str, Any] | None:
        leaves = self._request(lambda: self._copy(copy).leaves(document_id))
        return leaves[0].body if leaves and not leaves[0].deleted else None

    def copy_is_untouched(self, copy: Copy) -> bool:
        return self._request(lambda: not self._copy(copy).docs)

    def copy_security(self, copy: Copy) -> dict[str, Any]:
        found: dict[str, Any] = self._request(lambda: self._copy(copy).security)
        return found

    def put_document(self, database: str, document_id: str, content: Mapping[str, Any]) -> bool:
        _, agreed = self._request(
            lambda: documents.write(self._model, self._node, database, document_id, None, dict(content))
        )
        return agreed

    def delete_local(self, database: str, document_id: str) -> None:
        self._request(lambda: documents.delete_local(self._model, self._node, database, document_id))

    def leases(self, database: str) -> tuple[Lease, ...]:
        found = self._request(lambda: documents.list_local(self._model, self._node, database))
        return read_leases(LeaseRow(name, msgspec.Raw(msgspec.json.encode(local.body))) for name, local in found)

    def put_lease(self, database: str, lease: Lease) -> None:
        name = lease_id(lease.node, lease.role)
        body = msgspec.to_builtins(lease)
        self._request(lambda: documents.write_local(self._model, self._node, database, name, None, body))

    def create_database(self, database: str, _options: DatabasesConfig) -> Creation:
        try:
            agreed = self._request(
                lambda: self._model.create_database(self._node, database, q=1, n=len(self._model.nodes))
            )
        except FileExistsError:
            return Creation.EXISTED
        return Creation.CREATED if agreed else Creation.ACCEPTED

    def security(self, database: str) -> dict[str, Any]:
        found: dict[str, Any] = self._request(lambda: documents.read_security(self._model, self._node, database))
        return found

    def put_security(self, database: str, security: Mapping[str, Any]) -> None:
        self._request(lambda: documents.write_security(self._model, self._node, database, dict(security)))

    def missing_databases(self, names: Iterable[str]) -> set[str]:
        return self._request(lambda: {name for name in names if self._node.database(name) is None})

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

    def _request(self, ask: Callable[[], T]) -> T:
        fate = fate_of_request()
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


class ModelCopies:
    """What `peruserd.couch.copies.Copies` is to a cluster, on the model, asked through one node."""

    def __init__(self, client: ModelClient, model: ClusterModel, node: Node) -> None:
        self._client = client
        self._model = model
        self._node = node

    def evidence(self, document_id: str) -> Evidence:
        position = document_hash(document_id)
        document = self._client._request(lambda: self._node.database(AUTH_DB))
        hosts = frozenset(document.hosts_of(position)) if document else frozenset()
        copies = [copy for host in sorted(hosts) for copy in self._copy_of(host, position)]
        first = Evidence(hosts, tuple(Reading(each.node, _winner(each, document_id)) for each in copies))
        readings = [
            msgspec.structs.replace(reading, knows=first.unknown_winners(reading) & _known(copy, document_id))
            for copy, reading in zip(copies, first.readings, strict=True)
        ]
        return Evidence(hosts, tuple(readings))

    def security(self, database: str) -> tuple[CopyReading, ...] | None:
        document = self._client._request(lambda: self._node.database(database))
        if document is None or document.current is None:
            return None
        return tuple(
            self._reading(node, document.path(covered)) for covered, nodes in document.hosts.items() for node in nodes
        )

    def write_security(self, copy: CopyReading, security: Mapping[str, Any]) -> None:
        found = self._shard(copy.node, copy.path)
        if found is None:
            raise errors.NodeDownError(copy.node)
        self._client._request(lambda: found.set_security(dict(security)))

    def _reading(self, node: str, path: str) -> CopyReading:
        found = self._shard(node, path)
        try:
            return CopyReading(node, None if found is None else self._client._request(lambda: found.security), path)
        except (errors.ServerError, errors.TimedOutError):
            return CopyReading(node, None, path)

    def _copy_of(self, host: str, position: int) -> list[ShardCopy]:
        node = self._model.by_name[host]
        found = node.holding(AUTH_DB, position) if node in self._model.reachable(self._node) else None
        try:
            return [] if found is None else [self._client._request(lambda: found)]
        except (errors.ServerError, errors.TimedOutError):
            return []

    def _shard(self, host: str, path: str) -> ShardCopy | None:
        node = self._model.by_name[host]
        return node.shards.get(path) if node in self._model.reachable(self._node) else None


def _winner(copy: ShardCopy, document_id: str) -> Winner | None:
    leaves = copy.leaves(document_id)
    return None if leaves is None else Winner(leaves[0].rev, leaves[0].deleted)


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
    """A change source on one shard copy of the model, read through a node."""

    def __init__(self, model: ClusterModel, node: Node, copy: Copy) -> None:
        self._model = model
        self._node = node
        self._copy = copy

    def identify(self) -> Identity:
        copy = self._open()
        return Identity(copy.uuid, copy.update_seq)

    def page(self, since: int, limit: int = 1000) -> Page:
        rows = [
            Row(seq, document_id, leaves[0].deleted) for seq, document_id, leaves in self._open().rows(since, limit)
        ]
        return Page(rows, rows[-1].seq if rows else since)

    def _open(self) -> Any:
        if not self._node.alive:
            raise errors.UnreachableError(f"{self._node.name} is down")
        host = self._model.by_name[self._copy.node]
        if host not in self._model.reachable(self._node):
            raise errors.NodeDownError(host.name)
        copy = host.shards.get(self._copy.shard_name)
        if copy is None:
            raise errors.NotFoundError("no such shard", "no_db_file")
        return copy
