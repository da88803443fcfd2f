"""The cluster as state: nodes, who sees whom, databases, and the replication that makes copies agree. Pure.

No socket, no clock but the one it is given, no waiting: whoever drives it calls `replicate` when the delay is over, and
is told by `on_owed` when there is something to replicate.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import Range, split_evenly
from peruserd.simcluster import errors, ids
from peruserd.simcluster.copies import ShardCopy, cover
from peruserd.simcluster.debts import Debts, Missed
from peruserd.simcluster.maps import Added, Life, MapDocument, join
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.options import ClusterOptions, node_name
from peruserd.simcluster.securities import agree, as_compared


class ClusterModel:
    """All nodes and what they hold."""

    def __init__(self, options: ClusterOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.random = Random(options.seed)  # noqa: S311 - a simulation must be repeatable
        numbers = range(1, options.nodes + 1)
        last = options.nodes - options.spare
        self.nodes = [Node(number, node_name(number), joined=number <= last) for number in numbers]
        self.by_name = {node.name: node for node in self.nodes}
        self.delayed = options.replication_delay_seconds > 0
        self.on_owed: Callable[[], None] = lambda: None
        self._groups: list[set[int]] = []
        self._views: dict[str, tuple[Node, ...]] = {}
        self._debts = Debts()
        # Databases whose shard map not every node knows alike.
        self._unlike: set[str] = set()
        # Databases whose security object was not written to all copies.
        self._apart: set[str] = set()
        # Databases that had a validation function at some time.
        self.guarded: set[str] = set()
        # Databases where that is only noticed once nodes meet, or a document replicates.
        self._damaged: set[str] = set()
        # Whether nodes may have met since shard maps were last compared.
        self._met = False

    # Connections between nodes.

    def node(self, number: int) -> Node:
        """Return node `number`, counted from 1; LookupError where there is none."""
        if not 1 <= number <= len(self.nodes):
            raise LookupError(f"no node {number}: they are numbered 1 to {len(self.nodes)}")
        return self.nodes[number - 1]

    def live_member(self) -> Node:
        """Return the first node that is up and belongs to the cluster; LookupError where there is none."""
        for node in self.nodes:
            if node.alive and node.joined:
                return node
        raise LookupError("no node is alive")

    def members(self, at: Node) -> list[Node]:
        """Return the nodes that belong to the cluster as `at` sees it: one that does not knows itself alone."""
        return [node for node in self.nodes if node.joined] if at.joined else [at]

    def reachable(self, at: Node) -> tuple[Node, ...]:
        """Return the live nodes that `at` is connected to, itself first."""
        view = self._views.get(at.name)
        if view is None:
            others = [node for node in self.nodes if node is not at and node.alive and self._together(at, node)]
            view = self._views[at.name] = (at, *others)
        return view

    def set_alive(self, node: Node, *, alive: bool) -> None:
        """Stop or start a node; a stopped one keeps what it holds."""
        node.alive = alive
        self._views.clear()
        if alive:
            self._meet()
            self.on_owed()
            return
        node.wake()

    def set_joined(self, node: Node, *, joined: bool) -> None:
        """Let a node join the cluster or leave it; what it holds is kept. ValueError where none would be left."""
        if not joined and self.members(node) == [node]:
            raise ValueError(f"{node.name} is the only one that is left")
        node.joined = joined
        node.known |= joined
        self._views.clear()
        self._unlike.update(name for each in self.nodes for name in each.maps)
        self._meet()
        for each in self.nodes:
            each.wake()
        self.on_owed()

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Let only nodes of one group see each other; a node in no group is alone.

        No groups at all: everyone sees everyone.
        """
        self._groups = [set(group) for group in groups]
        self._views.clear()
        self._meet()
        # A reader that waits on a copy of a node that is out of reach now has to notice.
        for node in self.nodes:
            node.wake()
        self.on_owed()

    # Databases.

    def create_database(self, at: Node, name: str, *, q: int, n: int, props: dict[str, Any] | None = None) -> bool:
        """Make a database as asked of node `at`; say whether a majority of the nodes knows of it."""
        if at.database(name):
            raise errors.RefusalError(412, "file_exists", "The database could not be created, the file already exists.")
        life = Life(self._fresh_suffix(name), self._placement(at, name, q, n), (), props)
        known = at.maps.get(name) or MapDocument(name, (), frozenset())
        return self.publish(at, known.reborn(life))

    def delete_database(self, at: Node, name: str) -> bool:
        """Delete a database as asked of node `at`; say whether a majority of the nodes knows of it."""
        return self.publish(at, self.map_of(at, name).dead())

    def map_of(self, at: Node, name: str) -> MapDocument:
        """Return a living database's shard map as node `at` knows it; refuses where it knows none."""
        document = at.database(name)
        if document is None:
            raise errors.no_database()
        return document

    def publish(self, at: Node, document: MapDocument) -> bool:
        """Tell every node that `at` reaches of a new shard map; say whether they are a majority."""
        reached = self.reachable(at)
        made: list[ShardCopy] = []
        for node in reached:
            made += node.learn(join(node.maps.get(document.name), document), self.make_copy)
        first = at.maps[document.name]
        if self._furnish(first, reached, made):
            self._met = True
            self.on_owed()
        members = self.members(at)
        if any(node.maps.get(document.name) is not first for node in members):
            self._unlike.add(document.name)
            self._met |= any(node.maps[document.name] is not first for node in reached)
            self.on_owed()
        return len(reached) > len(members) // 2

    def make_copy(self, node: str, path: str, covered: Range) -> ShardCopy:
        """Return a new, empty copy."""
        return ShardCopy(node, path, covered, self.fresh_uuid(), int(self.clock() * 1_000_000))

    def fresh_uuid(self) -> str:
        """Return a name no copy bore before."""
        return f"{self.random.getrandbits(128):032x}"

    # Copies.

    def copies_at(self, at: Node, name: str, position: int) -> list[ShardCopy]:
        """Return the copies that node `at` reaches of the ranges that hold `position`, its own first.

        Refuses where no copy can be reached.
        """
        found = []
        for node in self.reachable(at):
            copy = node.holding(name, position)
            if copy:
                found.append(copy)
        if not found:
            raise errors.no_progress()
        return found

    def copies_of(self, at: Node, name: str) -> list[ShardCopy]:
        """Return all copies of a database that node `at` reaches, its own first."""
        return [copy for node in self.reachable(at) for copy in node.holdings.get(name, ())]

    def covering(self, at: Node, name: str, preferred: Callable[[ShardCopy], int] = lambda _: 0) -> list[ShardCopy]:
        """Return reachable copies that together hold every place of the hash space once, ascending.

        The highest `preferred` wins, then copies of nodes in service, then those of `at`. Refuses where the space
        cannot be covered.
        """
        own = at.name
        by_name = self.by_name
        copies = self.copies_of(at, name)
        copies.sort(
            key=lambda copy: (preferred(copy), not by_name[copy.node].in_maintenance, copy.node == own),
            reverse=True,
        )
        found = cover(copies)
        if found is None:
            raise errors.no_progress()
        return found

    # Replication.

    def leave_apart(self, name: str) -> None:
        """Note that not all copies of a database got its security object."""
        self._apart.add(name)

    def note_damage(self, name: str) -> None:
        """Note that somebody changed single copies' security objects, which nobody notices yet."""
        self._damaged.add(name)

    def note_push(self, name: str) -> None:
        """Note that copies of a database replicate a document: CouchDB compares their security objects then, too."""
        if name in self._damaged:
            self._meet()
            self.on_owed()

    def _meet(self) -> None:
        self._met = True
        self._apart |= self._damaged
        self._damaged.clear()

    def spread(self, name: str, document_id: str, source: ShardCopy) -> None:
        """Note which hosts lack what `source` has of a document."""
        position = ids.place(document_id)
        leaves = source.leaves(document_id)
        document = self.by_name[source.node].maps[name]
        for host in sorted(document.hosts_of(position)):
            copy = self.by_name[host].holding(name, position)
            if host != source.node and (copy is None or copy.leaves(document_id) is not leaves):
                self._debts.note(source.node, host, name, document_id)
        self.on_owed()

    def hold(self, node: Node, name: str) -> None:
        """Keep a node's copies of a database behind: nothing that is written elsewhere reaches them."""
        self._debts.hold(node.name, name)

    def release(self, node: Node, name: str) -> None:
        """Let a node's copies of a database catch up."""
        self._debts.release(node.name, name)
        self.on_owed()

    def is_held(self, copy: ShardCopy, name: str) -> bool:
        """Say whether a copy is kept behind."""
        return self._debts.holds(copy.node, name)

    def owed(self, name: str, *, source: str, target: str) -> bool:
        """Say whether `target` lacks something of a database, or `source` has something of it that others lack.

        Only nodes that see each other count: the others will not get it however long one waits.
        """
        return self._debts.concern(name, source, target, self._connected)

    def owes(self) -> bool:
        """Say whether nodes that see each other have something to replicate."""
        return self._debts.any_due(self._connected) or (self._met and bool(self._unlike or self._apart))

    def replicate(self) -> None:
        """Bring all nodes that see each other to the same shard maps and documents."""
        if self._met:
            self._met = False
            self._join_maps()
        if self.options.repairs_security:
            self._agree_on_security()
        while due := list(self._debts.take_due(self._connected)):
            for giver, taker, missed in due:
                self._pay(giver, taker, missed)

    def _pay(self, source: str, target: str, owed: Missed) -> None:
        giver, taker = self.by_name[source], self.by_name[target]
        for name, missed in owed.items():
            # Internal replication runs beside new writes and from several nodes at once: no order can be relied on.
            document_ids = list(missed)
            self.random.shuffle(document_ids)
            for document_id in document_ids:
                position = ids.place(document_id)
                have, lack = giver.holding(name, position), taker.holding(name, position)
                leaves = have.leaves(document_id) if have else None
                if lack and leaves and lack.merge(document_id, leaves):
                    self.spread(name, document_id, lack)

    def _join_maps(self) -> None:
        for name in sorted(self._unlike):
            for group in self._meetings():
                known = None
                for node in group:
                    document = node.maps.get(name)
                    known = join(known, document) if document else known
                learners = [node for node in group if known and node.maps.get(name) is not known]
                if known and learners:
                    made = [copy for node in learners for copy in node.learn(known, self.make_copy)]
                    self._furnish(known, group, made)
            if len({id(node.maps.get(name)) for node in self.nodes if node.joined}) == 1:
                self._unlike.discard(name)

    def _furnish(self, document: MapDocument, group: Iterable[Node], made: list[ShardCopy]) -> bool:
        """Let copies that were made beside older ones get what these have; say whether there are such.

        Documents are owed; the security object is agreed on when nodes meet. Documents written by an older map are
        looked through too, because their writer did not know of every copy that lacks them.
        """
        if not (made or document.has_grown):
            return False
        new = set(map(id, made))
        older = [
            copy
            for node in group
            for copy in node.holdings.get(document.name, ())
            if id(copy) not in new and copy.path == document.path(copy.range)
        ]
        for copy in older:
            for document_id in copy.docs:
                self.spread(document.name, document_id, copy)
        if older and made:
            self._apart.add(document.name)
        return bool(older and made)

    def _agree_on_security(self) -> None:
        """Let the security object that most copies of a database have win over another one (`mem3_sync_security`)."""
        for name in sorted(self._apart):
            for group in self._meetings():
                document = group[0].database(name)
                copies = [copy for node in group for copy in node.holdings.get(name, ())] if document else []
                agree(copies, sum(map(len, document.hosts.values())) if document else 0)
            held = [copy for node in self.nodes if node.joined for copy in node.holdings.get(name, ())]
            if len({as_compared(copy.security) for copy in held}) <= 1:
                self._apart.discard(name)

    def _meetings(self) -> list[tuple[Node, ...]]:
        """Return the groups of two and more live nodes that see each other."""
        groups = {frozenset(node.number for node in self.reachable(node)) for node in self.nodes if node.alive}
        return [tuple(self.node(number) for number in sorted(group)) for group in groups if len(group) > 1]

    def _connected(self, one: str, other: str) -> bool:
        first, second = self.by_name[one], self.by_name[other]
        return first.alive and second.alive and self._together(first, second)

    def _together(self, one: Node, other: Node) -> bool:
        if not (one.joined and other.joined):
            return False
        return not self._groups or any({one.number, other.number} <= group for group in self._groups)

    def _placement(self, at: Node, name: str, q: int, n: int) -> tuple[Added, ...]:
        nodes = self.members(at)
        count = len(nodes)
        start = document_hash(name)
        return tuple(
            sorted(
                Added(str(covered), nodes[(start + index + copy) % count].name)
                for index, covered in enumerate(split_evenly(q))
                for copy in range(min(n, count))
            )
        )

    def _fresh_suffix(self, name: str) -> str:
        born = [int(life.suffix[1:]) for node in self.nodes if name in node.maps for life in node.maps[name].lives]
        return f".{max([int(self.clock()), *(second + 1 for second in born)])}"
