"""The rules by which Hypothesis lets others do something to users' databases, and lets a copy be behind for ever."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from peruserd.core.configuration.config import DatabasesConfig, WhenDeleted
from peruserd.core.feed.lanes import Lane
from tests.model.deeds import UNKNOWN_USER, securities
from tests.model.machine import ClusterMachine, FiveNodesMachine
from tests.model.world import NODES, USERS, World

VICTIMS = USERS[:3]

_KINDS = st.integers(0, len(securities("")) - 1)


class DeedsMachine(ClusterMachine):
    """Everything that a cluster goes through, with others who delete, make and open users' databases."""

    hosts = st.sampled_from(NODES)
    victims = st.sampled_from(VICTIMS)

    def make_world(self) -> World:
        return World(databases=DatabasesConfig(when_deleted=self.when_deleted))

    when_deleted = WhenDeleted.REMAKE

    @initialize(users=st.lists(st.sampled_from(USERS)), instances=st.sets(hosts, min_size=1), served=st.booleans())
    def begin(self, users: list[str], instances: set[int], served: bool) -> None:  # noqa: FBT001
        for document_id in (*users, *VICTIMS) if served else users:
            self.world.write_user(document_id, 1, deleted=False)
        for node in NODES if served else sorted(instances):
            self.world.start(node)
        if served:
            self.world.settle()

    @rule(document_id=victims, node=hosts)
    def sign_up(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=False)

    @rule(document_id=victims, node=hosts)
    def delete(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=True)

    # Deeds of others

    @rule(document_id=victims, node=hosts)
    def somebody_deletes_a_database(self, document_id: str, node: int) -> None:
        self.world.deeds.delete(self.world.model.node(node), document_id)

    @rule(document_id=victims, node=hosts, kind=st.none() | _KINDS)
    def somebody_makes_a_database(self, document_id: str, node: int, kind: int | None) -> None:
        self.world.deeds.make(self.world.model.node(node), document_id, kind)

    @rule(document_id=victims, node=hosts, other=hosts, kind=st.none() | _KINDS, looks=st.booleans())
    def somebody_puts_a_database_back(
        self,
        document_id: str,
        node: int,
        other: int,
        kind: int | None,
        looks: bool,  # noqa: FBT001
    ) -> None:
        self.world.deeds.delete(self.world.model.node(node), document_id)
        if looks:
            self.everybody_works()
        self.world.deeds.make(self.world.model.node(other), document_id, kind)

    @rule(document_id=victims, node=hosts, kind=_KINDS, copies=st.sets(hosts, max_size=2))
    def somebody_opens_a_database(self, document_id: str, node: int, kind: int, copies: set[int]) -> None:
        nodes = [self.world.model.node(each) for each in sorted(copies)]
        self.world.deeds.open(self.world.model.node(node), document_id, kind, nodes)

    @rule(node=hosts)
    def a_copy_stays_behind(self, node: int) -> None:
        self.world.stay_behind(node)

    # What sees it

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data(), waits=st.integers(0, 3))
    def audit(self, data: st.DataObject, waits: int) -> None:
        self.a_listener(data)[1].audit(waits)

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data(), document_id=st.sampled_from([*VICTIMS, UNKNOWN_USER]))
    def an_operator_asks_for_a_look(self, data: st.DataObject, document_id: str) -> None:
        self.an_instance(data).following.look([document_id], Lane.OPERATOR)

    def teardown(self) -> None:
        try:
            self.world.settle()
            self.world.audit()
            self.world.look_again()
        finally:
            for instance in self.world.instances.values():
                instance.crash()
            self.patches.undo()


class ReportedDeedsMachine(DeedsMachine):
    """The same where a database that somebody deleted is not made again."""

    when_deleted = WhenDeleted.REPORT


class DeedsFiveNodesMachine(DeedsMachine):
    """The same on five nodes."""

    cuts = FiveNodesMachine.cuts

    def make_world(self) -> World:
        return World(nodes=5, databases=DatabasesConfig(when_deleted=self.when_deleted))
