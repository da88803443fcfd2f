"""A whole cluster in memory: three nodes, instances beside them, users who come and go, and the invariants at rest.

At rest peruserd has no more reasons to look at anything. Then:

- Every live user has a database that is right in every copy, and no deleted user has access.
- A database may be wrong if somebody else has written to it since an act last saw it: no feed shows changes of security
  objects. `look_again` makes peruserd look at everybody, and then the excuse is void.
- A user may be left in quarantine for the operator in one case: copies of the security object that are not blank
  differ, and no majority of all copies holds one of them (`copies_disagree`). Even so no copy names a deleted user.
- With `when_deleted = "report"` a database that somebody deleted may be missing; no act makes it again.
- A user may not be served yet if a copy that is behind for ever never got the document. `audit` lets every listener do
  rounds of the audit, and then this excuse is void too.
- A user can stay unconfirmed if copies of the document have one revision in two states. Only the user can cause that
  (`new_edits=false`).
"""

from collections import Counter
from typing import Any, Final

from peruserd.core.cluster.cluster_database import ADMINS_ONLY
from peruserd.core.cluster.leases import Drain, Role
from peruserd.core.common.names import database_name, decode_database_name, user_document_id, user_name
from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.changes import Change
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.users.quarantine import Failure
from peruserd.core.users.security import admits, grants, is_public
from peruserd.listener.outcome import Outcome
from peruserd.simcluster.events.splits import Splitter, rebuild
from peruserd.simcluster.model import documents
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.options import ClusterOptions
from tests.model.cluster import LEASES
from tests.model.foes import PREFIX, CopyDamage, HostileUser, Writers
from tests.model.instances import QUIET_SECONDS, TTL_SECONDS, Instance, Listener, ReplacedError, StateDirectory
from tests.model.others import UNKNOWN, OthersActs
from tests.model.places import owner_of, shard_map_of
from tests.model.witness import AUTH_DB, BLANK, ObservedCluster, all_names

NODES: Final = (1, 2, 3)
USERS: Final = tuple(user_document_id(name) for name in ("ann", "bob", "cid", "dan", "eve", "hal"))

# Both have the prefix and no user: one name encodes no user, and the user of the other does not exist.
NOBODYS: Final = ("userdb-6", UNKNOWN)
STRANGER_SECURITY: Final = {"members": {"names": ["op"]}, "admins": {"names": ["op"]}}

_MAX_ROUNDS: Final = 200

# An audit waits if it cannot read, or can confirm nobody: at most a few times for each of these users.
_MAX_WAITS: Final = 1_000

# Copies can hold different leases of a dead instance, and a newly started instance can mistake that for growth.
_REST_SECONDS: Final = 3 * TTL_SECONDS + QUIET_SECONDS + 2.0
_IDLE_ROUND_SECONDS: Final = TTL_SECONDS / 2


class World:
    """The steps of all events, for machine and examples alike. Only `pass_time` moves the time."""

    def __init__(self, nodes: int = len(NODES), databases: DatabasesConfig = DatabasesConfig()) -> None:  # noqa: B008
        self.now = 1000.0
        self.databases = databases
        # Every node has a copy of everything. Replication is a step of its own, so a copy can lag for any time.
        options = ClusterOptions(nodes=nodes, q=2, n=nodes, replication_delay_seconds=1.0)
        self.model = ObservedCluster(options, lambda: self.now)
        self.witness = self.model.witness
        self.splitter = Splitter(self.model)
        self.hostile = HostileUser(self.model)
        self.writers = Writers(self.model)
        self.copy_damage = CopyDamage(self.model)
        self.others = OthersActs(self.model)
        self.witness.when_deleted = databases.when_deleted
        # The nodes whose copies of the authentication database never catch up.
        self.behind: set[int] = set()
        # Documents of which restored copies have made the whole cluster lose revisions.
        self.rolled_back: set[str] = set()
        self.states: dict[tuple[int, int], StateDirectory] = {}
        # The keys are node and seat: seat 1 is a second installation beside the node, with its own state directory.
        self.instances: dict[tuple[int, int], Instance] = {}
        self._incarnations = 0
        first = self.model.nodes[0]
        self.model.create_database(first, AUTH_DB, q=2, n=nodes)
        for name in NOBODYS:
            self.model.create_database(first, name, q=1, n=nodes)
            documents.write_security(self.model, first, name, STRANGER_SECURITY)
        self.model.replicate()

    # The cluster

    def write_user(self, document_id: str, node: int, *, deleted: bool) -> None:
        """Write or delete a user document through a node; a refused write has no effect."""
        at = self.model.node(node)
        if at.alive:
            self.hostile.write(document_id, at, deleted=deleted)

    def graft(self, *, node: int, **how: Any) -> None:
        """Write a revision of a document as a replicator does."""
        at = self.model.node(node)
        if at.alive:
            self.hostile.graft(at=at, **how)

    def restore(self, number: int) -> None:
        """Restore a node's copies of the authentication database from a backup.

        The operator then lets peruserd begin anew with these copies. A restored copy keeps its uuid and its sequences,
        so a listener would otherwise skip rows that the copy gets back before the listener looks.
        """
        at = self.copy_damage.backups[number]
        self.rolled_back |= self.copy_damage.restore(number)
        for state in self.states.values():
            for copy, disk in state.files.items():
                if copy.node == at.name:
                    disk.saved = None
        for instance, listener in self.listeners():
            if listener.assignment.copy.node == at.name:
                if listener.leaving:
                    instance.leavers.remove(listener)
                    listener.crash()
                else:
                    instance.restart(listener.assignment.copy)

    def set_alive(self, node: int, *, alive: bool) -> None:
        self.model.set_alive(self.model.node(node), alive=alive)

    def partition(self, *some: int) -> None:
        """Cut some nodes off from the others, or reconnect all."""
        others = [node.number for node in self.model.nodes if node.number not in some]
        self.model.partition([some, others] if some else [])

    def stay_behind(self, node: int) -> None:
        """Let a node's copies of the authentication database never catch up again; the copies of one node at most."""
        if self.behind <= {node}:
            self.behind.add(node)
            self.model.pause_replication(self.model.node(node), AUTH_DB)

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
        """Start an instance, replacing one that runs there."""
        self.kill(node, seat)
        self._incarnations += 1
        state = self.states.setdefault((node, seat), StateDirectory())
        instance = Instance(self.model, self.model.node(node), state, f"i{self._incarnations}", self.databases)
        self.instances[node, seat] = instance
        self.watch(instance)
        self.renew_lease(instance)

    def kill(self, node: int, seat: int = 0) -> None:
        if instance := self.instances.pop((node, seat), None):
            instance.crash()

    def release(self, node: int, seat: int = 0) -> None:
        if instance := self.instances.pop((node, seat), None):
            instance.release()

    def drain(self, node: int, seat: int = 0, *, on: bool) -> None:
        """Tell an instance to give up its documents, or to take them back, whether or not others are there."""
        if instance := self.instances.get((node, seat)):
            instance.member.drain(on=on)

    def crash(self) -> None:
        """Let all instances die at once, at the end of a test."""
        for instance in self.instances.values():
            instance.crash()

    def lose_state(self, node: int, seat: int = 0) -> None:
        """Kill an instance and lose its state directory."""
        self.kill(node, seat)
        self.states.pop((node, seat), None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def renew_lease(self, instance: Instance) -> None:
        """Write an instance's lease."""
        instance.renew_lease(self.now)

    def watch(self, instance: Instance) -> None:
        """Read the cluster, and act on it."""
        instance.look(self.now)
        instance.go_round(self.now)

    def follow(self, instance: Instance, listener: Listener) -> bool:
        """Read a page of the live feed; begin again with a replaced copy."""
        if listener.leaving:
            return False
        try:
            return listener.follow()
        except ReplacedError:
            instance.restart(listener.assignment.copy)
            return True

    def listeners(self) -> list[tuple[Instance, Listener]]:
        return [(instance, each) for instance in self.instances.values() for each in instance.all_listeners()]

    # Invariants

    def check(self) -> None:
        """Except by others, no database is public, names a stranger, or is touched without having a user."""
        for node in self.model.nodes:
            for name in node.names:
                for copy in node.holdings.get(name, ()):
                    if name in NOBODYS:
                        assert copy.security == STRANGER_SECURITY
                    elif name == LEASES:
                        assert copy.security == ADMINS_ONLY, f"others can write leases on {node.name}"
                    elif name != AUTH_DB:
                        self._check_names(name, copy.security, node.name)

    def _check_names(self, database: str, security: Any, node: str) -> None:
        others = self.witness.put_by_others.get(database)
        assert others is not None or not is_public(security), f"{database} is public on {node}"
        user = decode_database_name(PREFIX, database)
        if user is None:
            assert others is not None, f"nobody but peruserd can have made {database}"
            assert not all_names(security)
            return
        for name in all_names(security) - (others or set()):
            assert name == user, f"{database} names {name}"
            was_live = user_document_id(user) in self.witness.ever_live
            assert was_live or database in self.witness.made_blindly, f"{database} is for nobody"

    # Invariants at rest

    def settle(self) -> None:
        """Let everything run until nothing happens any more, and check every user."""
        self._come_to_rest()
        self._check_owners()
        self._check_users()
        self.check()

    def look_again(self) -> None:
        """Let peruserd look at every user anew, twice; the second time it must do nothing."""
        for key in list(self.instances):
            self.kill(*key)
        for writes in (True, False):
            for state in self.states.values():
                for disk in state.files.values():
                    disk.saved = None
            before = self.witness.security_puts.copy(), self.witness.puts.copy()
            for node in self.model.nodes:
                self.set_alive(node.number, alive=True)
                self.start(node.number)
            self._come_to_rest()
            self._check_users(looked_at=True)
            self.check()
            if not writes:
                self._check_idle(*before)

    def audit(self) -> None:
        """Let each listener do rounds of the audit until it has read every other copy; the last one finds nothing."""
        for _ in self.model.nodes:
            before = self.witness.security_puts.copy(), self.witness.puts.copy()
            for _, listener in self.listeners():
                assert listener.audit(_MAX_WAITS), "the audit does not end"
            self._come_to_rest()
        self._check_users(looked_at=True)
        self.check()
        self._check_idle(*before)

    def _check_idle(self, security_puts: Counter[str], puts: Counter[str]) -> None:
        """Nothing is written if everything is right; a user who waits for the operator costs one PUT without effect.

        Users with differing copies do not count: by a copy that is behind, a deleted user can look new after each
        start.
        """
        written = filter(self._is_agreed, self.witness.security_puts - security_puts)
        tried = [
            user
            for user in filter(self._is_agreed, self.witness.puts - puts)
            if not self.witness.disagree(_database(user))
        ]
        assert [*written, *tried] == [], "an idle cluster writes"

    def _is_agreed(self, user: str) -> bool:
        return self.witness.is_known_everywhere(user_document_id(user))

    def _come_to_rest(self) -> None:
        self.partition()
        for node in self.model.nodes:
            self.set_alive(node.number, alive=True)
            if node.number not in self.behind:
                self.model.resume_replication(node, AUTH_DB)
        while waiting := self.splitter.waiting():
            self.splitter.run(waiting[0])
        self.model.replicate()
        if not self.instances:
            self.start(1)
        idle_since, seconds = self.now, 1.0
        for _ in range(_MAX_ROUNDS):
            # Most rounds only wait for possible events, so time passes faster then, and leases live longer.
            if self._round(seconds):
                idle_since, seconds = self.now, 1.0
            else:
                seconds = _IDLE_ROUND_SECONDS
            if self.now - idle_since > _REST_SECONDS:
                break
        else:
            raise AssertionError(f"it never comes to rest: {self.witness.ended[-3:]}")

    def _round(self, seconds: float) -> bool:
        """Let time pass and all instances do their available work; say whether anything was done."""
        self.now += seconds
        self.model.replicate()
        busy = False
        for instance in list(self.instances.values()):
            before = instance.plan
            self.renew_lease(instance)
            self.watch(instance)
            busy |= instance.plan != before
            busy |= instance.read_directory()
        for instance, listener in self.listeners():
            busy |= self.follow(instance, listener)
        for _, listener in self.listeners():
            listener.tracker.queue_due()
            listener.probe()
            while listener.scan(limit=100):
                busy = True
            self.witness.ended.clear()
            listener.work()
            busy |= any(not self._may_stay(*each) for each in self.witness.ended)
            listener.save()
        for instance in self.instances.values():
            instance.receive()
            instance.go_round(self.now)
        return busy

    def owner(self, document_id: str) -> Node:
        """Return the node whose instance owns a document, if all instances know each other."""
        names = {instance.node.name for instance in self.instances.values()}
        active = [each for each in self.instances.values() if each.member.lease.role is Role.ACTIVE]
        told = frozenset(each.node.name for each in active if each.member.draining)
        return owner_of(self.model, set(Drain(told, told).owners(names)), document_id)

    def _check_owners(self) -> None:
        """Exactly one instance acts on each document, and each range has a listener."""
        followed = {copy.range for instance in self.instances.values() for copy in instance.listeners}
        assert followed == set(shard_map_of(self.model).hosts)
        for document_id in USERS:
            actors = [
                instance.node.name
                for instance in self.instances.values()
                for copy, listener in instance.listeners.items()
                if document_hash(document_id) in copy.range and listener.tracker._state.intake.is_mine(document_id)
            ]
            assert actors == [self.owner(document_id).name], document_id

    def _may_stay(self, change: Change, outcome: Outcome) -> bool:
        """Say whether an act may fail again and again."""
        match outcome.failure:
            case Failure(kind="copies_disagree"):
                return self.witness.disagree(_database(user_name(change.document_id) or ""))
            case Failure(kind="unconfirmed"):
                return self.witness.is_disputed(change.document_id)
        return False

    def _check_users(self, *, looked_at: bool = False) -> None:
        """A live user has a database that is right in every copy; a deleted user has access to none."""
        for document_id in USERS:
            if self.witness.is_disputed(document_id) or (document_id in self.rolled_back and not looked_at):
                continue
            user = user_name(document_id) or ""
            database = _database(user)
            if self.behind and not looked_at and not self.witness.is_known_everywhere(document_id):
                # The owner may follow the copy without the document.
                continue
            is_deleted = self.witness.is_deleted(document_id)
            is_excused = self.witness.is_excused(database, deleted=is_deleted is True)
            if is_deleted is None:
                known = document_id in self.rolled_back or database in self.witness.put_by_others
                assert known or not self._objects(database)
            elif is_deleted:
                objects = self._objects(database)
                assert (is_excused and not looked_at) or not any(user in all_names(each) for each in objects), (
                    f"{user} still has access: {objects}"
                )
            elif self._is_reported(database):
                continue
            elif not self.witness.disagree(database) and not (is_excused and not looked_at):
                self._check_live(user, database, looked_at=looked_at)

    def _is_reported(self, database: str) -> bool:
        """Say whether a database is missing because somebody deleted it; across a cut it can still exist."""
        reports = self.databases.when_deleted is WhenDeleted.REPORT
        return reports and database in self.witness.missing and not self._objects(database)

    def _check_live(self, user: str, database: str, *, looked_at: bool) -> None:
        """Each copy of a live user's database names the user; a blank one may wait for a look.

        CouchDB fills the blank copy of a node that returns, but not where others have made copies differ before.
        """
        objects = self._objects(database)
        assert len(objects) == len(self.model.nodes), f"{user} has no database on every node"
        is_right = admits if database in self.witness.rewritten else grants
        wrong = [each for each in objects if is_public(each) or not is_right(each, user)]
        unrepaired = self.witness.is_unrepaired(database) and all(each in BLANK for each in wrong)
        assert not wrong or (unrepaired and not looked_at), f"{user} has no access: {objects}"

    def _objects(self, database: str) -> list[Any]:
        return [copy.security for node in self.model.nodes for copy in node.holdings.get(database, ())]


def _database(user: str) -> str:
    return database_name(PREFIX, user)
