"""An instance of peruserd in memory: the real rules and the real tracker, without processes, threads and time.

Methods do the work of a daemon's threads, one step each: renew the lease, look, go round, read, work. A crash can come
between any two steps, and within an action between any two of its requests.
"""

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import Assignment, Copy, Plan, View, difference, make_plan
from peruserd.core.configuration.config import CouchDBConfig, DatabasesConfig, DeletionConfig
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import is_behind
from peruserd.core.processes.open_looks import Message
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.couch.copies import Copies, ShardLayout
from peruserd.couch.errors import CouchError
from peruserd.couch.probe import MajorityProbe
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.outcome import Outcome
from peruserd.listener.provisioner import Provisioner
from peruserd.simcluster.model.nodes import Node
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.membership import Member
from tests.listener.disks import Disk, MemoryStore, NeverWaits, WouldBlockError
from tests.listener.trackers import make_tracker
from tests.model.acts import Act, Fate
from tests.model.audits import ModelAudit
from tests.model.cluster import LEASES, ModelClient, ModelSource
from tests.model.directories import Following
from tests.model.witness import AUTH_DB, ObservedCluster

TTL_SECONDS = 6.0
QUIET_SECONDS = 3.0
SHARE = 3


class StateDirectory:
    """The state of an instance on disk.

    It is the incarnation, the instances in force, the state of each copy, and the place in the list of databases.
    """

    def __init__(self) -> None:
        self.incarnation: str | None = None
        self.instances: tuple[str, ...] | None = None
        self.files: dict[Copy, Disk] = {}
        self.mark: Mark | None = None

    @property
    def doubts(self) -> set[str]:
        return {document_id for disk in self.files.values() for document_id in disk.doubts}


class Listener:
    """One listener: its tracker, its provisioner, its reading and its actions under way."""

    def __init__(
        self,
        model: ObservedCluster,
        node: Node,
        assignment: Assignment,
        plan: Plan | None,
        disk: Disk,
        databases: DatabasesConfig,
    ) -> None:
        self.assignment = assignment
        self.source = ModelSource(model, node, assignment.copy)
        self.store = MemoryStore(disk)
        self.acts: list[Act] = []
        self.leaving = False
        # The number of the latest reported look.
        self.looked = self.looked_at_all = 0
        self._me = node.name
        self._opened: str | None = None
        self.tracker: ChangeTracker = make_tracker(
            instance=node.name,
            ownership=assignment.ownership,
            nodes=() if plan is None else plan.nodes,
            cut_off=plan is not None and plan.cut_off,
            upcoming=assignment.upcoming,
            share=SHARE,
            store=self.store,
            recall_seconds=TTL_SECONDS + QUIET_SECONDS + 2.0,
        )
        self.tracker._changed = NeverWaits()
        self._witness = model.witness
        client = ModelClient(model, node)
        self._probe = MajorityProbe(client, LEASES, assignment.copy)
        self._provisioner = Provisioner(
            client,
            Copies(client, ShardLayout(client, "_local", AUTH_DB, model.clock)),
            databases=databases,
            deletion=DeletionConfig(),
            deletions=model.journal,
            intents=self.tracker.intents,
            connected=lambda: self.tracker._state.documents.nodes,
        )
        self._audit = ModelAudit(
            client,
            assignment.copy,
            self.store,
            databases=databases,
            nodes=len(model.nodes),
            mine=self.is_mine,
            look=lambda document_ids: self.tracker.look(document_ids, Lane.AUDIT),
            clock=model.clock,
        )

    def inform(self, assignment: Assignment, plan: Plan) -> None:
        self.assignment = assignment
        self.tracker.inform(assignment.ownership, assignment.upcoming, SHARE, nodes=plan.nodes, cut_off=plan.cut_off)

    def follow(self) -> bool:
        """Read a page of the live feed and say whether anything came; ReplacedError where the copy was replaced."""
        try:
            identity = self.source.identify()
            if self._opened is None:
                self.tracker.open(identity)
                self._opened = identity.uuid
            if identity.uuid != self._opened:
                raise ReplacedError
            since = self.tracker.wait_for_room()
            assert isinstance(since, int)
            page = self.source.page(since)
        except CouchError as error:
            self.tracker.feed_failed(error.kind)
            return False
        if not page.results and is_behind(identity, since):
            raise ReplacedError
        self.tracker.enter_live(page)
        return bool(page.results)

    def scan(self, limit: int) -> bool:
        """Read a page of a scan, if one is wanted."""
        if self._opened is None or self.leaving:
            return False
        try:
            task = self.tracker.wait_for_scan()
        except WouldBlockError:
            return False
        assert task is not None
        assert isinstance(task.since, int)
        try:
            page = self.source.page(task.since, limit)
            to_check = task.to_check(page)
            missing = self._provisioner.find_missing(to_check, remade=task.names) if to_check else set()
        except CouchError:
            return False
        self.tracker.enter_scan(task, page, missing)
        return True

    def asked(self, message: Message) -> None:
        """Take in a request of the supervisor."""
        self.tracker.on_request(message)

    def is_mine(self, document_id: str) -> bool:
        return self.tracker._state.intake.is_mine(document_id)

    def audit(self, waits: int) -> bool:
        """Do a round of the audit, or its beginning up to so many waits; say whether it ended."""
        return self._opened is not None and not self.leaving and self._audit.do_round(waits)

    def probe(self) -> bool:
        """Ask the cluster whether it serves, if that is due."""
        try:
            is_due = self.tracker.failures.wait_for_probe()
        except WouldBlockError:
            return False
        assert is_due
        self.tracker.failures.probed(self._probe.ask())
        return True

    def begin_work(self) -> bool:
        """Begin to act on the next change, if there is one, and stop before the first request."""
        act = self._next()
        if act is None:
            return False
        self.acts.append(act)
        act.begin()
        self._give_back_finished()
        return True

    def work(self) -> None:
        """Finish all actions under way, and then act on each change that there is."""
        self.finish()
        while act := self._next():
            self.acts.append(act)
            self.finish()

    def _next(self) -> Act | None:
        try:
            change = self.tracker.take()
        except WouldBlockError:
            return None
        assert change is not None
        return Act(change, self._provisioner.act, self.assignment.copy.node)

    def step(self, index: int, fate: Fate) -> None:
        """Let an action under way make its next request."""
        self.acts[index].step(fate)
        self._give_back_finished()

    def leave(self) -> None:
        self.leaving = True
        self.tracker.leave()

    @property
    def has_left(self) -> bool:
        documents = self.tracker._state.documents
        return self.leaving and not documents.reviews and not documents.active

    def finish(self) -> None:
        """Let all actions under way make all their requests."""
        while self.acts:
            self.acts[0].finish()
            self._give_back_finished()

    def save(self) -> None:
        """Write the progress down, after checking that it passes no unfinished work."""
        self.tracker.save()
        report = self.tracker.report()
        self.looked, self.looked_at_all = report.looked, report.looked_at_all
        if self._opened is not None:
            self._check_checkpoint()

    def _check_checkpoint(self) -> None:
        saved, quarantined, _ = self.store.load()
        assert saved is not None
        if self._opened != saved.uuid or self.leaving:
            return
        kept = {each.document_id for each in quarantined}
        mine = saved.current.belongs_to(self._me)
        live = self.tracker._state.intake.live
        assert live is not None
        under_way = [each.waiting for each in self.tracker._state.documents._records.values()]
        held = {change.document_id: change for change in under_way if change is not None}
        held |= {act.change.document_id: act.change for act in self.acts}
        assert isinstance(saved.checkpoint, int)
        for change in held.values():
            if change.watermark is live and mine(change.document_id):
                begun = live._open[change.ticket][0]
                assert isinstance(begun, int)
                assert begun >= saved.checkpoint or change.document_id in kept, f"passed: {change} {saved}"

    def crash(self) -> None:
        for act in self.acts:
            act.crash()
        self.acts.clear()
        self.store.close()

    def _give_back_finished(self) -> None:
        for act in [each for each in self.acts if each.finished]:
            self.acts.remove(act)
            assert isinstance(act.outcome, Outcome)
            self._witness.ends(act)
            self.tracker.give_back(act.change, act.outcome)


class ReplacedError(Exception):
    """The copy was replaced by another one."""


class Instance:
    """One instance beside a node."""

    def __init__(
        self,
        model: ObservedCluster,
        node: Node,
        state: StateDirectory,
        incarnation: str,
        databases: DatabasesConfig,
    ) -> None:
        self.node = node
        self.state = state
        self.incarnation = incarnation
        replaces, state.incarnation = state.incarnation, incarnation
        self._model = model
        self._databases = databases
        self._client = ModelClient(model, node)
        self.following = Following(node, state.mark, self._ask)
        self.member = Member(incarnation=incarnation, replaces=replaces, ttl_seconds=TTL_SECONDS, version="model")
        self._database = ClusterDatabase(self._client, LEASES, mend=True)
        self._cluster_reader = ClusterReader(self._client, CouchDBConfig(node=node.name), self.member, self._database)
        self.stable_view = StableView(QUIET_SECONDS, TTL_SECONDS, expected=state.instances)
        self.plan: Plan | None = None
        self._planned_for: tuple[View, View] | None = None
        self.listeners: dict[Copy, Listener] = {}
        self.leavers: list[Listener] = []

    # The threads of a daemon

    def renew_lease(self, now: float) -> None:
        """Write the lease after reading the one that it overwrites, as the lease renewer does."""
        if not self.member.has_read_leases or not self._database.state.usable:
            return
        try:
            self.member.observe(self.node.name, self._client.leases(LEASES), now)
            lease = self.member.next_lease(self.node.name, drained=self.is_drained)
            self._client.put_lease(LEASES, lease)
            self.member.note_written(lease)
        except CouchError:
            return

    @property
    def is_drained(self) -> bool:
        """Say whether it was told to give up its documents, and no listener is left."""
        view = None if self._planned_for is None else self._planned_for[0]
        return self.member.draining and view is not None and view.gives_up and not self.all_listeners()

    def look(self, now: float) -> None:
        """Read the cluster."""
        try:
            view = self._cluster_reader.read()
        except CouchError:
            return
        self.stable_view = self.stable_view.observe(view, now)

    def go_round(self, now: float) -> None:
        """Put due changes in force, and adjust the listeners to the plan."""
        self.stable_view = self.stable_view.advance(now)
        self._mind_leavers()
        view, seen = self.stable_view.in_force, self.stable_view.seen
        if view is None or seen is None:
            return
        if self.stable_view.certain:
            self.state.instances = view.instances
        if self._planned_for == (view, seen):
            return
        self._planned_for = (view, seen)
        plan = make_plan(view, self.node.name, seen)
        if plan != self.plan:
            self._carry_out(plan)

    def _carry_out(self, plan: Plan) -> None:
        before = self.plan or Plan()
        all_change = (before.nodes, before.cut_off) != (plan.nodes, plan.cut_off)
        self.plan = plan
        change = difference(plan, {copy: each.assignment for copy, each in self.listeners.items()})
        for copy in change.stop:
            leaver = self._end(copy)
            leaver.save()
            leaver.leave()
            self.leavers.append(leaver)
        for assignment in plan.assignments if all_change else change.inform:
            if assignment.copy in self.listeners:
                self.listeners[assignment.copy].inform(assignment, plan)
        for assignment in change.start:
            # Its predecessor must be gone first; a leaving one has had its time.
            for leaver in [each for each in self.leavers if each.assignment.copy == assignment.copy]:
                leaver.crash()
                self.leavers.remove(leaver)
            self._start(assignment)
        self._mind_leavers()
        self.following.adjust(plan)
        for assignment in change.start:
            self.following.greet(assignment.copy)

    def read_directory(self) -> bool:
        """Read what is new in the list of databases; say whether anything was."""
        return self.following.read()

    def receive(self) -> None:
        """Take in the listeners' finished looks, and note the finished place in the list of databases."""
        for copy, listener in self.listeners.items():
            self.following.receive(copy, listener.looked, listener.looked_at_all)
        self.state.mark = self.following.seen_to or self.state.mark

    def restart(self, copy: Copy) -> None:
        """Kill a listener and start it again."""
        listener = self._end(copy)
        listener.crash()
        self._start(listener.assignment)
        self.following.greet(copy)

    def crash(self) -> None:
        """Die at once, with all listeners."""
        for listener in [*self.listeners.values(), *self.leavers]:
            listener.crash()
        self.listeners.clear()
        self.leavers.clear()

    def release(self) -> None:
        """Stop in order: work under way ends, progress is saved, and the last lease is released."""
        for listener in self.listeners.values():
            listener.finish()
            listener.save()
        self.receive()
        self.crash()
        try:
            self._client.put_lease(LEASES, self.member.next_lease(self.node.name, released=True))
        except CouchError:
            return

    def all_listeners(self) -> list[Listener]:
        return [*self.listeners.values(), *self.leavers]

    def _ask(self, copy: Copy, message: Message) -> None:
        self.listeners[copy].asked(message)

    def _end(self, copy: Copy) -> Listener:
        self.following.end(copy)
        return self.listeners.pop(copy)

    def _start(self, assignment: Assignment) -> None:
        disk = self.state.files.setdefault(assignment.copy, Disk())
        self.listeners[assignment.copy] = Listener(self._model, self.node, assignment, self.plan, disk, self._databases)
        self._reassign_in_doubt()

    def _mind_leavers(self) -> None:
        for leaver in [each for each in self.leavers if each.has_left]:
            leaver.save()
            leaver.crash()
            self.leavers.remove(leaver)
        self._reassign_in_doubt()

    def _reassign_in_doubt(self) -> None:
        in_use = {each.assignment.copy for each in self.all_listeners()}
        heir = next(iter(self.listeners.values()), None)
        if heir is None:
            return
        for copy, disk in self.state.files.items():
            if copy not in in_use and disk.doubts:
                heir.tracker.take_over_doubts(sorted(disk.doubts))
                disk.doubts.clear()
