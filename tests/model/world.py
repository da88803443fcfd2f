"""A whole cluster in memory: three nodes, instances beside them, users who come and go, and what must hold at rest."""

from typing import Any, Final

from peruserd.core.cluster_database import ADMINS_ONLY
from peruserd.core.hashing import document_hash
from peruserd.core.names import database_name, user_document_id, user_name
from peruserd.core.ownership import Ownership
from peruserd.core.ranges import Range, ShardMap
from peruserd.core.security import grants, is_public
from peruserd.simcluster import documents
from peruserd.simcluster.errors import RefusalError
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.splitting import Splitter, rebuild
from tests.model.acts import Fate
from tests.model.cluster import AUTH_DB, LEASES
from tests.model.instances import QUIET_SECONDS, TTL_SECONDS, Instance, Listener, ReplacedError, StateDirectory

NODES: Final = (1, 2, 3)
USERS: Final = tuple(user_document_id(name) for name in ("ann", "bob", "cid", "dan", "eve", "hal"))
PREFIX: Final = "userdb-"

# Bears the prefix and names nobody: it must stay as it is.
STRANGER: Final = "userdb-6"
STRANGER_SECURITY: Final = {"members": {"names": ["op"]}, "admins": {"names": ["op"]}}

_MOST_ROUNDS: Final = 200

# Who has just begun to look can take the different leases of a dead instance that three copies hold for its growth.
_REST_SECONDS: Final = 3 * TTL_SECONDS + QUIET_SECONDS + 2.0


class World:
    """The steps that anything can happen in, for the machine and for examples alike. Time goes only when told to."""

    def __init__(self, nodes: int = len(NODES)) -> None:
        self.now = 1000.0
        # Every node has a copy of everything. Replication waits until it is told to go: a copy can lag for any time.
        options = ClusterOptions(nodes=nodes, q=2, n=nodes, replication_delay_seconds=1.0)
        self.model = ClusterModel(options, lambda: self.now)
        self.splitter = Splitter(self.model)
        self.states: dict[tuple[int, int], StateDirectory] = {}
        # By node and seat: seat 1 is a second installation beside the node, with a state directory of its own.
        self.instances: dict[tuple[int, int], Instance] = {}
        self._incarnations = 0
        first = self.model.nodes[0]
        self.model.create_database(first, AUTH_DB, q=2, n=nodes)
        self.model.create_database(first, STRANGER, q=1, n=nodes)
        documents.write_security(self.model, first, STRANGER, STRANGER_SECURITY)
        self.model.replicate()

    # The cluster

    def write_user(self, document_id: str, node: int, *, deleted: bool) -> None:
        """Write or delete a user document through a node; what the cluster refuses did not happen."""
        at = self.model.node(node)
        if not at.alive:
            return
        try:
            leaves = documents.read(self.model, at, AUTH_DB, document_id)
            if deleted and (leaves is None or leaves[0].deleted):
                return
            rev = None if leaves is None or leaves[0].deleted else leaves[0].rev
            documents.write(self.model, at, AUTH_DB, document_id, rev, {"at": self.now}, deleted=deleted)
        except RefusalError:
            return

    def set_alive(self, node: int, *, alive: bool) -> None:
        self.model.set_alive(self.model.node(node), alive=alive)

    def partition(self, *some: int) -> None:
        """Cut some nodes off from the others, or let all see each other."""
        others = [node.number for node in self.model.nodes if node.number not in some]
        self.model.partition([some, others] if some else [])

    def begin_split(self) -> None:
        """Begin to split every range, unless that is under way."""
        at = next((node for node in self.model.nodes if node.alive), None)
        if at is not None and not self.splitter.waiting() and len(self.splitter.jobs) < 6:
            self.splitter.start(at, AUTH_DB, None)

    def split_one(self, index: int) -> None:
        """Let one of the nodes split one of its copies."""
        if waiting := self.splitter.waiting():
            self.splitter.run(waiting[index % len(waiting)])

    def rebuild(self, node: int, index: int) -> None:
        """Make one of a node's copies again from scratch."""
        at = self.model.node(node)
        if at.alive and (copies := at.holdings.get(AUTH_DB)):
            rebuild(self.model, at, AUTH_DB, str(copies[index % len(copies)].range))

    # The instances

    def start(self, node: int, seat: int = 0) -> None:
        """Start an instance, in the place of one that runs there."""
        self.kill(node, seat)
        self._incarnations += 1
        state = self.states.setdefault((node, seat), StateDirectory())
        instance = Instance(self.model, self.model.node(node), state, f"i{self._incarnations}")
        self.instances[node, seat] = instance
        self.watch(instance)
        self.beat(instance)

    def kill(self, node: int, seat: int = 0) -> None:
        if instance := self.instances.pop((node, seat), None):
            instance.crash()

    def release(self, node: int, seat: int = 0) -> None:
        if instance := self.instances.pop((node, seat), None):
            instance.release()

    def lose_state(self, node: int, seat: int = 0) -> None:
        """Kill an instance and lose its state directory."""
        self.kill(node, seat)
        self.states.pop((node, seat), None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def beat(self, instance: Instance) -> None:
        """Write an instance's lease."""
        instance.beat(self.now)

    def watch(self, instance: Instance) -> None:
        """Look at the cluster, and do what follows."""
        instance.look(self.now)
        instance.go_round(self.now)

    def follow(self, instance: Instance, listener: Listener) -> bool:
        """Read a page of the live feed; a copy that was replaced is begun again."""
        if listener.leaving:
            return False
        try:
            return listener.follow()
        except ReplacedError:
            instance.restart(listener.assignment.copy)
            return True

    def listeners(self) -> list[tuple[Instance, Listener]]:
        return [(instance, each) for instance in self.instances.values() for each in instance.all_listeners()]

    # What must hold always

    def check(self) -> None:
        """No user's database is public, and nothing else is touched."""
        for node in self.model.nodes:
            for name in node.names:
                for copy in node.holdings.get(name, ()):
                    if name == STRANGER:
                        assert copy.security == STRANGER_SECURITY
                    elif name == LEASES:
                        assert copy.security == ADMINS_ONLY, f"others can write leases on {node.name}"
                    elif name.startswith(PREFIX):
                        assert not is_public(copy.security), f"{name} is public on {node.name}"
            known = {database_name(PREFIX, user_name(each) or "") for each in USERS}
            assert set(node.names) <= known | {AUTH_DB, LEASES, STRANGER}

    # What must hold at rest

    def settle(self) -> None:
        """Let everything that is there run until nothing happens any more, and look at every user."""
        self.partition()
        for node in self.model.nodes:
            self.set_alive(node.number, alive=True)
        while waiting := self.splitter.waiting():
            self.splitter.run(waiting[0])
        self.model.replicate()
        if not self.instances:
            self.start(1)
        idle_since = self.now
        for _ in range(_MOST_ROUNDS):
            if self._round():
                idle_since = self.now
            if self.now - idle_since > _REST_SECONDS:
                break
        else:
            raise AssertionError("it never comes to rest")
        self._check_owners()
        self._check_users()
        self.check()

    def _round(self) -> bool:
        """Let a second pass, in which everybody does all there is to do; say whether anything was done."""
        self.now += 1.0
        self.model.replicate()
        busy = False
        for instance in list(self.instances.values()):
            before = instance.plan
            self.beat(instance)
            self.watch(instance)
            busy |= instance.plan != before
        for instance, listener in self.listeners():
            busy |= self.follow(instance, listener)
        for _, listener in self.listeners():
            listener.ledger.retry_due()
            while listener.scan(limit=100):
                busy = True
            while listener.acts or listener.begin_work():
                busy = True
                while listener.acts:
                    listener.step(0, Fate.DONE)
            busy |= listener.ledger.report().quarantined > 0
            listener.save()
        for instance in self.instances.values():
            instance.go_round(self.now)
        return busy

    def shard_map(self) -> ShardMap:
        document = self.model.nodes[0].maps[AUTH_DB]
        assert document.current is not None
        hosts = {str(covered): nodes for covered, nodes in document.hosts.items()}
        return ShardMap.build(AUTH_DB, document.current.suffix, hosts)

    def _check_owners(self) -> None:
        """Each document is acted on by just one instance, and each range is listened to."""
        shard_map = self.shard_map()
        followed = {copy.range for instance in self.instances.values() for copy in instance.listeners}
        assert followed == set(shard_map.hosts)
        nodes = tuple(sorted({instance.node.name for instance in self.instances.values()}))
        for document_id in USERS:
            actors = [
                instance.node.name
                for instance in self.instances.values()
                for copy, listener in instance.listeners.items()
                if _holds(copy.range, document_id) and listener.ledger._mine(document_id)
            ]
            (covered, *_) = [each for each in shard_map.hosts if _holds(each, document_id)]
            assert actors == [Ownership.of(shard_map, covered, nodes).owner(document_id)], document_id

    def _check_users(self) -> None:
        """Who is there has a database that is right in every copy, and who was deleted has access to none."""
        at = self.model.nodes[0]
        for document_id in USERS:
            leaves = documents.read(self.model, at, AUTH_DB, document_id)
            name = user_name(document_id) or ""
            objects = self._objects(database_name(PREFIX, name))
            if leaves is None:
                assert objects == []
            elif leaves[0].deleted:
                assert not any(name in str(each) for each in objects), f"{name} still has access: {objects}"
            else:
                assert len(objects) == len(self.model.nodes), f"{name} has no database on every node"
                assert all(grants(each, name) for each in objects), f"{name} has no access: {objects}"

    def _objects(self, database: str) -> list[Any]:
        return [copy.security for node in self.model.nodes for copy in node.holdings.get(database, ())]


def _holds(covered: Range, document_id: str) -> bool:

    return document_hash(document_id) in covered
