"""The state of the cluster: nodes, their connections, databases, and the replication between copies. Pure.

The model has no socket, does not wait, and has only the clock that it is given. It calls `on_backlog` when there are
documents to replicate. The driver then calls `replicate` after its delay.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from peruserd.core.ownership.ranges import Range
from peruserd.simcluster.model import errors, ids
from peruserd.simcluster.model.backlog import Backlog, Missed
from peruserd.simcluster.model.copies import ShardCopy, cover
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.placement import fresh_suffix, place_copies
from peruserd.simcluster.model.security_objects import agree, as_compared
from peruserd.simcluster.model.shard_maps import Life, MapDocument, join
from peruserd.simcluster.options import ClusterOptions, node_name


class ClusterModel:
    """All nodes with their files, and the connections between them."""

    def __init__(self, options: ClusterOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.random = Random(options.seed)  # noqa: S311 - a simulation must be repeatable
        numbers = range(1, options.nodes + 1)
        last = options.nodes - options.spare
        self.nodes = [Node(number, node_name(number), joined=number <= last) for number in numbers]
        self.by_name = {node.name: node for node in self.nodes}
        self.delayed = options.replication_delay_seconds > 0
        self.on_backlog: Callable[[], None] = lambda: None
        self._groups: list[set[int]] = []
        self._views: dict[str, tuple[Node, ...]] = {}
        self._backlog = Backlog()
        # Databases with different shard maps on different nodes.
        self._differing_maps: set[str] = set()
        # Databases whose security object was not written to all copies.
        self._differing_security: set[str] = set()
        # Databases that had a validation function at some time.
        self.guarded: set[str] = set()
        # Databases with changed security objects, which is noticed when nodes meet or a document replicates.
        self._damaged_security: set[str] = set()
        # Nodes may have met since shard maps were compared the last time.
        self._may_have_met = False

    # Connections between nodes.

    def node(self, number: int) -> Node:
        """Return node `number`, counted from 1. LookupError where there is none."""
        if not 1 <= number <= len(self.nodes):
            raise LookupError(f"no node {number}: they are numbered 1 to {len(self.nodes)}")
        return self.nodes[number - 1]

    def live_member(self) -> Node:
        """Return the first live node of the cluster. LookupError where there is none."""
        for node in self.nodes:
            if node.alive and node.joined:
                return node
        raise LookupError("no node is alive")

    def members(self, at: Node) -> list[Node]:
        """Return the members of the cluster as `at` sees them. A node outside the cluster sees only itself."""
        return [node for node in self.nodes if node.joined] if at.joined else [at]

    def reachable(self, at: Node) -> tuple[Node, ...]:
        """Return `at` itself and then the live nodes with a connection to it."""
        view = self._views.get(at.name)
        if view is None:
            others = [node for node in self.nodes if node is not at and node.alive and self._are_connected(at, node)]
            view = self._views[at.name] = (at, *others)
        return view

    def set_alive(self, node: Node, *, alive: bool) -> None:
        """Stop or start a node. A stopped node keeps its files."""
        node.alive = alive
        self._views.clear()
        if alive:
            self._note_meeting()
            self.on_backlog()
            return
        node.wake()

    def set_joined(self, node: Node, *, joined: bool) -> None:
        """Let a node join the cluster or leave it, with its files. ValueError where no member would be left."""
        if not joined and self.members(node) == [node]:
            raise ValueError(f"{node.name} is the only one that is left")
        node.joined = joined
        node.known |= joined
        self._views.clear()
        self._differing_maps.update(name for each in self.nodes for name in each.maps)
        self._note_meeting()
        for each in self.nodes:
            each.wake()
        self.on_backlog()

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Let only nodes of one group see each other. A node in no group is alone.

        Without any group all nodes see each other.
        """
        self._groups = [set(group) for group in groups]
        self._views.clear()
        self._note_meeting()
        # A reader of a copy has to notice that its node cannot be reached any more.
        for node in self.nodes:
            node.wake()
        self.on_backlog()

    # Databases.

    def create_database(self, at: Node, name: str, *, q: int, n: int, props: dict[str, Any] | None = None) -> bool:
        """Create a database through node `at`. Say whether a majority of the nodes knows it."""
        if at.database(name):
            raise errors.RefusalError(412, "file_exists", "The database could not be created, the file already exists.")
        suffix = fresh_suffix((node.maps[name] for node in self.nodes if name in node.maps), self.clock())
        life = Life(suffix, place_copies(name, [node.name for node in self.members(at)], q=q, n=n), (), props)
        known = at.maps.get(name) or MapDocument(name, (), frozenset())
        return self.publish(at, known.recreated(life))

    def delete_database(self, at: Node, name: str) -> bool:
        """Delete a database through node `at`. Say whether a majority of the nodes knows."""
        return self.publish(at, self.map_of(at, name).deleted())

    def map_of(self, at: Node, name: str) -> MapDocument:
        """Return the shard map of a database as node `at` knows it. Refuses where it knows no such database."""
        document = at.database(name)
        if document is None:
            raise errors.no_database()
        return document

    def publish(self, at: Node, document: MapDocument) -> bool:
        """Give a new shard map to every node that `at` reaches. Say whether these are a majority."""
        reached = self.reachable(at)
        made: list[ShardCopy] = []
        for node in reached:
            made += node.learn(join(node.maps.get(document.name), document), self.make_copy)
        first = at.maps[document.name]
        if self._replicate_to_new(first, reached, made):
            self._may_have_met = True
            self.on_backlog()
        members = self.members(at)
        if any(node.maps.get(document.name) is not first for node in members):
            self._differing_maps.add(document.name)
            self._may_have_met |= any(node.maps[document.name] is not first for node in reached)
            self.on_backlog()
        return len(reached) > len(members) // 2

    def make_copy(self, node: str, path: str, covered: Range) -> ShardCopy:
        """Return a new, empty copy."""
        return ShardCopy(node, path, covered, self.fresh_uuid(), int(self.clock() * 1_000_000))

    def fresh_uuid(self) -> str:
        """Return a uuid that no copy had before."""
        return f"{self.random.getrandbits(128):032x}"

    # Copies.

    def copies_at(self, at: Node, name: str, position: int) -> list[ShardCopy]:
        """Return the reachable copies of the ranges around `position`, the copy of node `at` first.

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

    def note_differing_security(self, name: str) -> None:
        """Note that not all copies of a database got the same security object."""
        self._differing_security.add(name)

    def note_damage(self, name: str) -> None:
        """Note a change of single copies' security objects behind CouchDB's back."""
        self._damaged_security.add(name)

    def note_replicated_document(self, name: str) -> None:
        """Note that copies of a database replicate a document. CouchDB compares their security objects then, too."""
        if name in self._damaged_security:
            self._note_meeting()
            self.on_backlog()

    def _note_meeting(self) -> None:
        self._may_have_met = True
        self._differing_security |= self._damaged_security
        self._damaged_security.clear()

    def spread(self, name: str, document_id: str, source: ShardCopy) -> None:
        """Note the hosts that lack a document of `source`, or a part of its revisions."""
        position = ids.place(document_id)
        leaves = source.leaves(document_id)
        document = self.by_name[source.node].maps[name]
        for host in sorted(document.hosts_of(position)):
            copy = self.by_name[host].holding(name, position)
            if host != source.node and (copy is None or copy.leaves(document_id) is not leaves):
                self._backlog.note(source.node, host, name, document_id)
        self.on_backlog()

    def pause_replication(self, node: Node, name: str) -> None:
        """Keep a node's copies of a database behind. Writes on other nodes do not reach them."""
        self._backlog.pause(node.name, name)

    def resume_replication(self, node: Node, name: str) -> None:
        """Let a node's copies of a database catch up."""
        self._backlog.resume(node.name, name)
        self.on_backlog()

    def is_paused(self, copy: ShardCopy, name: str) -> bool:
        """Say whether a copy is kept behind."""
        return self._backlog.is_paused(copy.node, name)

    def has_backlog_between(self, name: str, *, source: str, target: str) -> bool:
        """Say whether `source` has documents of a database to give to any node, or `target` has documents of it to get.

        Only nodes that see each other count, because the other ones cannot replicate.
        """
        return self._backlog.involves(name, source, target, self._connected)

    def has_backlog(self) -> bool:
        """Say whether nodes that see each other have something to replicate."""
        return self._backlog.any_due(self._connected) or (
            self._may_have_met and bool(self._differing_maps or self._differing_security)
        )

    def replicate(self) -> None:
        """Bring all nodes that see each other to the same shard maps and documents."""
        if self._may_have_met:
            self._may_have_met = False
            self._join_maps()
        if self.options.repairs_security:
            self._agree_on_security()
        while due := list(self._backlog.take_due(self._connected)):
            for source, target, missed in due:
                self._hand_over(source, target, missed)

    def _hand_over(self, source: str, target: str, documents: Missed) -> None:
        """Merge documents of one node into the copies of another, and note the copies that lack the result."""
        for name, missed in documents.items():
            # Internal replication runs beside new writes and from several nodes at once, so no order can be relied on.
            document_ids = list(missed)
            self.random.shuffle(document_ids)
            for document_id in document_ids:
                position = ids.place(document_id)
                ours = self.by_name[source].holding(name, position)
                theirs = self.by_name[target].holding(name, position)
                leaves = ours.leaves(document_id) if ours else None
                if theirs and leaves and theirs.merge(document_id, leaves):
                    self.spread(name, document_id, theirs)

    def _join_maps(self) -> None:
        for name in sorted(self._differing_maps):
            for group in self._meetings():
                known = None
                for node in group:
                    document = node.maps.get(name)
                    known = join(known, document) if document else known
                learners = [node for node in group if known and node.maps.get(name) is not known]
                if known and learners:
                    made = [copy for node in learners for copy in node.learn(known, self.make_copy)]
                    self._replicate_to_new(known, group, made)
            if len({id(node.maps.get(name)) for node in self.nodes if node.joined}) == 1:
                self._differing_maps.discard(name)

    def _replicate_to_new(self, document: MapDocument, group: Iterable[Node], made: list[ShardCopy]) -> bool:
        """Replicate from older copies to new copies of a database. Say whether there are both.

        Documents go into the backlog. The security object is agreed on when nodes meet. The older copies are looked
        through in any case, because a writer with an older map did not know all copies.
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
            self._differing_security.add(document.name)
        return bool(older and made)

    def _agree_on_security(self) -> None:
        """Let the security object that most copies of a database have win over another one (`mem3_sync_security`)."""
        for name in sorted(self._differing_security):
            for group in self._meetings():
                document = group[0].database(name)
                copies = [copy for node in group for copy in node.holdings.get(name, ())] if document else []
                agree(copies, sum(map(len, document.hosts.values())) if document else 0)
            held = [copy for node in self.nodes if node.joined for copy in node.holdings.get(name, ())]
            if len({as_compared(copy.security) for copy in held}) <= 1:
                self._differing_security.discard(name)

    def _meetings(self) -> list[tuple[Node, ...]]:
        """Return the groups of two and more live nodes that see each other."""
        groups = {frozenset(node.number for node in self.reachable(node)) for node in self.nodes if node.alive}
        return [tuple(self.node(number) for number in sorted(group)) for group in groups if len(group) > 1]

    def _connected(self, one: str, other: str) -> bool:
        first, second = self.by_name[one], self.by_name[other]
        return first.alive and second.alive and self._are_connected(first, second)

    def _are_connected(self, one: Node, other: Node) -> bool:
        if not (one.joined and other.joined):
            return False
        return not self._groups or any({one.number, other.number} <= group for group in self._groups)
