"""The simulated cluster's state as clients see it, without sockets: the requests that peruserd makes, answered at once.

What is answered, and what a cut between the nodes does to it, is `peruserd.simcluster`'s, which replays the recorded
exchanges of a real cluster in the contract tests.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from peruserd.core.config import DatabasesConfig
from peruserd.core.leases import Lease, Role
from peruserd.core.progress import Identity
from peruserd.core.ranges import ShardMap
from peruserd.core.views import Copy
from peruserd.couch import errors
from peruserd.couch.client import Creation, DocumentState, Membership
from peruserd.couch.sources import Page, Row
from peruserd.simcluster import documents
from peruserd.simcluster.errors import RefusalError
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from tests.model.acts import Fate, fate_of_request

T = TypeVar("T")

AUTH_DB = "_users"


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

    def shard_map(self, _node: str, database: str) -> ShardMap | None:
        document = self._request(lambda: self._node.database(database))
        if document is None or document.current is None:
            return None
        hosts = {str(covered): nodes for covered, nodes in document.hosts.items()}
        return ShardMap.build(database, document.current.suffix, hosts)

    def leases(self, database: str, nodes: Iterable[str], *, ranges: int | None = None) -> tuple[Lease, ...]:
        del ranges
        found = []
        for node in nodes:
            for role in Role:
                try:
                    local = self._request(
                        lambda node=node, role=role: documents.read_local(
                            self._model, self._node, database, f"_local/{role.value}.{node}"
                        )
                    )
                except errors.NotFoundError:
                    continue
                found.append(msgspec.convert(local.body, Lease))
        return tuple(found)

    def put_lease(self, database: str, lease: Lease) -> None:
        name = f"_local/{lease.role.value}.{lease.node}"
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

    def document_state(self, database: str, document_id: str, *, quorum: int) -> DocumentState:
        del quorum
        leaves = self._request(lambda: documents.read(self._model, self._node, database, document_id))
        if leaves is None:
            return DocumentState.MISSING
        return DocumentState.DELETED if leaves[0].deleted else DocumentState.LIVE

    def missing_databases(self, names: Iterable[str]) -> set[str]:
        return self._request(lambda: {name for name in names if self._node.database(name) is None})

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


def _translated(error: RefusalError) -> Exception:
    if error.error == "file_exists":
        return FileExistsError(str(error))
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
