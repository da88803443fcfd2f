"""The rules by which Hypothesis drives a world: everything that happens to a cluster and to instances, in any order."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from peruserd.core.common.backoff import Backoff
from peruserd.core.scheduling import restless
from peruserd.core.users import quarantine
from peruserd.core.users.quarantine import Advice
from peruserd.couch import cluster_database as cluster_database_module
from peruserd.listener import auditing as auditing_module
from peruserd.listener import change_tracker as tracker_module
from peruserd.listener import failures as failures_module
from peruserd.listener import feed as feed_module
from peruserd.listener import jitter as jitter_module
from peruserd.listener import provisioner as provisioner_module
from peruserd.supervisor import attaching as attaching_module
from peruserd.supervisor import cluster_reader as cluster_reader_module
from peruserd.supervisor import directory_reader as directory_reader_module
from peruserd.supervisor import membership as membership_module
from tests import quick
from tests.model.acts import Fate
from tests.model.instances import Instance, Listener
from tests.model.world import NODES, USERS, World

_SILENCE = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
_SOON = Backoff(initial_seconds=0.5, max_seconds=1.0)


def patch(patches: pytest.MonkeyPatch, world: World) -> None:
    """Let the code under test use the world's time, log nothing, and retry soon."""
    clock = SimpleNamespace(monotonic=lambda: world.now, time=lambda: world.now)
    for module in (tracker_module, cluster_reader_module):
        patches.setattr(module, "time", clock)
    for module in (
        tracker_module,
        cluster_reader_module,
        membership_module,
        provisioner_module,
        cluster_database_module,
        directory_reader_module,
        auditing_module,
        failures_module,
        feed_module,
        attaching_module,
    ):
        patches.setattr(module, "log", _SILENCE)
    patches.setattr(jitter_module, "random", SimpleNamespace(random=lambda: 0.5))
    # A world counts as at rest sooner than after the minute for which a restless document waits.
    patches.setattr(restless, "REST_SECONDS", 5.0)
    patches.setattr(quarantine, "_BACKOFF", dict.fromkeys((Advice.RETRY, Advice.ASK_OPERATOR), _SOON))


class ClusterMachine(RuleBasedStateMachine):
    """Everything that can happen, in any order."""

    cuts: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (3,))

    def make_world(self) -> World:
        return World()

    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.world = self.make_world()
        patch(self.patches, self.world)

    nodes = st.sampled_from(NODES)
    seats = st.sampled_from([0, 0, 0, 1])

    def an_instance(self, data: st.DataObject) -> Instance:
        keys = sorted(self.world.instances)
        return self.world.instances[data.draw(st.sampled_from(keys))]

    def a_listener(self, data: st.DataObject) -> tuple[Instance, Listener]:
        return data.draw(st.sampled_from(self.world.listeners()))

    @initialize(users=st.lists(st.sampled_from(USERS)), instances=st.sets(st.sampled_from(NODES), min_size=1))
    def begin(self, users: list[str], instances: set[int]) -> None:
        for document_id in users:
            self.world.write_user(document_id, 1, deleted=False)
        for node in sorted(instances):
            self.world.start(node)

    # Users

    @rule(document_id=st.sampled_from(USERS), node=nodes)
    def sign_up(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=False)

    @rule(document_id=st.sampled_from(USERS), node=nodes)
    def delete(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=True)

    # The cluster

    @rule(node=nodes, alive=st.booleans())
    def stop_or_start_node(self, node: int, alive: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.world.set_alive(node, alive=alive)

    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        self.world.partition(*data.draw(st.sampled_from(self.cuts)))

    @rule()
    def replicate(self) -> None:
        self.world.model.replicate()

    @rule()
    def begin_split(self) -> None:
        self.world.begin_split()

    @precondition(lambda self: self.world.splitter.waiting())
    @rule(index=st.integers(0, 5))
    def split_one(self, index: int) -> None:
        self.world.split_one(index)

    @rule(node=nodes, index=st.integers(0, 3))
    def rebuild(self, node: int, index: int) -> None:
        self.world.rebuild(node, index)

    # The instances

    @rule(node=nodes, seat=seats)
    def start(self, node: int, seat: int) -> None:
        self.world.start(node, seat)

    @rule(node=nodes, seat=seats)
    def kill(self, node: int, seat: int) -> None:
        self.world.kill(node, seat)

    @rule(node=nodes, seat=seats)
    def release(self, node: int, seat: int) -> None:
        self.world.release(node, seat)

    @rule(node=nodes, seat=seats, on=st.booleans())
    def drain(self, node: int, seat: int, on: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        self.world.drain(node, seat, on=on)

    @rule(node=nodes, seat=seats)
    def lose_state(self, node: int, seat: int) -> None:
        # The directory is kept while a doubt is noted: a half written security object could stay so without its note.
        state = self.world.states.get((node, seat))
        if state is not None and not state.doubts:
            self.world.lose_state(node, seat)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 8.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data())
    def renew_lease(self, data: st.DataObject) -> None:
        self.world.renew_lease(self.an_instance(data))

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data())
    def watch(self, data: st.DataObject) -> None:
        self.world.watch(self.an_instance(data))

    @rule(rounds=st.integers(1, 8))
    def everybody_renews_and_watches(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.pass_time(1.0)
            for instance in list(self.world.instances.values()):
                self.world.renew_lease(instance)
                self.world.watch(instance)

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data())
    def read_directory(self, data: st.DataObject) -> None:
        self.an_instance(data).read_directory()

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        self.an_instance(data).receive()

    # The listeners

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        self.world.follow(*self.a_listener(data))

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data(), limit=st.integers(1, 5))
    def scan(self, data: st.DataObject, limit: int) -> None:
        self.a_listener(data)[1].scan(limit)

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data())
    def begin_work(self, data: st.DataObject) -> None:
        self.a_listener(data)[1].begin_work()

    @precondition(lambda self: any(each.acts for _, each in self.world.listeners()))
    @rule(data=st.data(), fate=st.sampled_from([Fate.DONE, Fate.DONE, Fate.DONE, Fate.REFUSED, Fate.LOST]))
    def step(self, data: st.DataObject, fate: Fate) -> None:
        busy = [each for _, each in self.world.listeners() if each.acts]
        listener = data.draw(st.sampled_from(busy))
        listener.step(data.draw(st.integers(0, len(listener.acts) - 1)), fate)

    @rule()
    def everybody_works(self) -> None:
        for instance in self.world.instances.values():
            instance.read_directory()
        for instance, listener in self.world.listeners():
            self.world.follow(instance, listener)
        for _, listener in self.world.listeners():
            listener.tracker.queue_due()
            listener.probe()
            listener.scan(limit=3)
            listener.work()

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data())
    def probe(self, data: st.DataObject) -> None:
        self.a_listener(data)[1].probe()

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        self.a_listener(data)[1].save()

    @precondition(lambda self: any(instance.listeners for instance in self.world.instances.values()))
    @rule(data=st.data())
    def kill_listener(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from([each for each in self.world.instances.values() if each.listeners]))
        instance.restart(data.draw(st.sampled_from(sorted(instance.listeners))))

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @invariant()
    def nothing_is_public_or_touched(self) -> None:
        self.world.check()

    def come_to_rest(self) -> None:
        """Let the world come to rest at the end of an example, and check everything."""
        self.world.settle()

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.world.crash()
            self.patches.undo()


class VictimsMachine(ClusterMachine):
    """The same with few users, so that more events meet one user; an example can begin with all of them served."""

    hosts = ClusterMachine.nodes
    first_victims: ClassVar[tuple[str, ...]] = USERS
    victims = st.runner().flatmap(lambda machine: st.sampled_from(machine.first_victims))

    def after_service(self) -> None:
        """Do what follows the service of all victims at the beginning."""

    @initialize(users=st.lists(st.sampled_from(USERS)), instances=st.sets(hosts, min_size=1), served=st.booleans())
    def begin(self, users: list[str], instances: set[int], served: bool) -> None:  # noqa: FBT001
        for document_id in (*users, *self.first_victims) if served else users:
            self.world.write_user(document_id, 1, deleted=False)
        for node in NODES if served else sorted(instances):
            self.world.start(node)
        if served:
            self.world.settle()
            self.after_service()

    @rule(document_id=victims, node=hosts)
    def sign_up(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=False)

    @rule(document_id=victims, node=hosts)
    def delete(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=True)


class FiveNodesMachine(ClusterMachine):
    """The same on five nodes, where a write that a minority took can look right to its next owner."""

    cuts = ((), (1,), (1, 2), (2, 3))

    def make_world(self) -> World:
        return World(nodes=5)


def run_part(machine: type[ClusterMachine], part: int, *, examples: int) -> None:
    """Run a part of the examples of a machine, up to 100 steps each; parts can run side by side.

    Coming to rest at the end of an example takes as long as some fifty steps, so there are few and long examples.
    """
    # Hypothesis keeps failures by name, so each part has a name of its own.
    named = type(f"{machine.__name__}{part}", (machine,), {})
    how = settings(
        max_examples=quick.examples(examples),
        stateful_step_count=100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # Every run checks the same histories, so a change has the same result everywhere; `long_run` finds new
        # histories.
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(named, settings=how)
