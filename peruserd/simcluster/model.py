"""The cluster as state: nodes, who sees whom, databases, and the replication that makes copies agree. Pure.

No socket, no clock but the one it is given, no waiting: whoever drives it calls `replicate` when the delay is over, and
is told by `on_owed` when there is something to replicate. What a copy missed is remembered as owed by each copy that
has it, so catching up costs what was missed and not what there is.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from peruserd.core.hashing import document_hash
from peruserd.core.ranges import HASH_SPACE, Range, split_evenly
from peruserd.simcluster import errors
from peruserd.simcluster.copies import ShardCopy
from peruserd.simcluster.maps import Added, Life, MapDocument, join
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.options import ClusterOptions, node_name


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
        # What a node lacks, by (who has it, who lacks it): database, document ids in the order they were missed.
        self._owed: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
        # Databases whose shard map not every node knows alike.
        self._unlike: set[str] = set()
        # Databases whose security object was not written to all copies.
        self._apart: set[str] = set()
        # Whether nodes may have met since shard maps were last compared.
        self._met = False

    # Who sees whom.

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
            self._met = True
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
        self._met = True
        for each in self.nodes:
            each.wake()
        self.on_owed()

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Let only nodes of one group see each other; a node in no group is alone.

        No groups at all: everyone sees everyone.
        """
        self._groups = [set(group) for group in groups]
        self._views.clear()
        self._met = True
        # Who waits on a copy of a node that is out of reach now has to notice.
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
        found = _cover(copies, 0)
        if found is None:
            raise errors.no_progress()
        return found

    # Replication.

    def leave_apart(self, name: str) -> None:
        """Note that not all copies of a database got its security object."""
        self._apart.add(name)

    def spread(self, name: str, document_id: str, source: ShardCopy) -> None:
        """Note which hosts lack what `source` has of a document."""
        position = document_hash(document_id)
        leaves = source.leaves(document_id)
        document = self.by_name[source.node].maps[name]
        for host in document.hosts_of(position):
            copy = self.by_name[host].holding(name, position)
            if host != source.node and (copy is None or copy.leaves(document_id) is not leaves):
                self._owed.setdefault((source.node, host), {}).setdefault(name, {})[document_id] = None
        self.on_owed()

    def owed(self, name: str, *, source: str, target: str) -> bool:
        """Say whether `target` lacks something of a database, or `source` has something of it that others lack.

        Only nodes that see each other count: the others will not get it however long one waits.
        """
        return any(
            name in owed and (giver == source or taker == target) and self._connected(giver, taker)
            for (giver, taker), owed in self._owed.items()
        )

    def owes(self) -> bool:
        """Say whether nodes that see each other have something to replicate."""
        return any(self._connected(*pair) for pair in self._owed) or (self._met and bool(self._unlike or self._apart))

    def replicate(self) -> None:
        """Bring all nodes that see each other to the same shard maps and documents."""
        if self._met:
            self._met = False
            self._join_maps()
        self._agree_on_security()
        while pairs := [pair for pair in self._owed if self._connected(*pair)]:
            for pair in pairs:
                self._pay(*pair, self._owed.pop(pair))

    def _pay(self, source: str, target: str, owed: dict[str, dict[str, None]]) -> None:
        giver, taker = self.by_name[source], self.by_name[target]
        for name, missed in owed.items():
            # Internal replication runs beside new writes and from several nodes at once: no order can be relied on.
            document_ids = list(missed)
            self.random.shuffle(document_ids)
            for document_id in document_ids:
                position = document_hash(document_id)
                have, lack = giver.holding(name, position), taker.holding(name, position)
                leaves = have.leaves(document_id) if have else None
                if lack and leaves and lack.merge(document_id, leaves):
                    self.spread(name, document_id, lack)

    def _join_maps(self) -> None:
        for name in list(self._unlike):
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

        Documents are owed; the security object is agreed on when nodes meet. What was written by an older map is
        looked through too: who wrote it did not know of all who lack it.
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
        """Let the security object that most copies of a database have win over another one (`mem3_sync_security`).

        Nothing is done where there are more than two, or none that most copies have.
        """
        for name in list(self._apart):
            for group in self._meetings():
                document = group[0].database(name)
                copies = [copy for node in group for copy in node.holdings.get(name, ())] if document else []
                objects = [copy.security for copy in copies]
                different = [each for index, each in enumerate(objects) if each not in objects[:index]]
                total = sum(map(len, document.hosts.values())) if document else 0
                common = max(different, key=objects.count, default=None)
                if len(different) == 2 and objects.count(common) > total // 2:
                    for copy in copies:
                        if copy.security != common:
                            copy.set_security(common)
            held = [copy.security for node in self.nodes if node.joined for copy in node.holdings.get(name, ())]
            if all(each == held[0] for each in held):
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


def _majority_of(objects: list[Any], total: int) -> Any:
    """Return the one of two different objects that more than half of `total` copies have; None where there is none."""
    different: list[Any] = []
    for each in objects:
        if each not in different:
            different.append(each)
    common = max(different, key=objects.count, default=None)
    return common if len(different) == 2 and objects.count(common) * 2 > total else None


def _cover(copies: list[ShardCopy], begin: int) -> list[ShardCopy] | None:
    """Return copies that cover the space from `begin` on, trying them in the order given."""
    if begin == HASH_SPACE:
        return []
    for copy in copies:
        if copy.range.begin == begin:
            rest = _cover(copies, copy.range.end + 1)
            if rest is not None:
                return [copy, *rest]
    return None
