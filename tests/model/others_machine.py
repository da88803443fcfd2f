"""The rules by which Hypothesis lets others change users' databases, and lets a copy stay behind for ever."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.lanes import Lane
from tests.model.machine import FiveNodesMachine, VictimsMachine
from tests.model.others import UNKNOWN_USER, securities
from tests.model.world import USERS, World

VICTIMS = USERS[:3]

_KINDS = st.integers(0, len(securities("")) - 1)


class OthersMachine(VictimsMachine):
    """Everything that a cluster goes through, with others who delete, make and open users' databases."""

    hosts = VictimsMachine.hosts
    victims = VictimsMachine.victims
    first_victims = VICTIMS

    def make_world(self) -> World:
        return World(databases=DatabasesConfig(when_deleted=self.when_deleted))

    when_deleted = WhenDeleted.REMAKE

    # Acts of others

    @rule(document_id=victims, node=hosts)
    def somebody_deletes_a_database(self, document_id: str, node: int) -> None:
        self.world.others.delete(self.world.model.node(node), document_id)

    @rule(document_id=victims, node=hosts, kind=st.none() | _KINDS)
    def somebody_makes_a_database(self, document_id: str, node: int, kind: int | None) -> None:
        self.world.others.make(self.world.model.node(node), document_id, kind)

    @rule(document_id=victims, node=hosts, other=hosts, kind=st.none() | _KINDS, looks=st.booleans())
    def somebody_puts_a_database_back(
        self,
        document_id: str,
        node: int,
        other: int,
        kind: int | None,
        looks: bool,  # noqa: FBT001
    ) -> None:
        self.world.others.delete(self.world.model.node(node), document_id)
        if looks:
            self.everybody_works()
        self.world.others.make(self.world.model.node(other), document_id, kind)

    @rule(document_id=victims, node=hosts, kind=_KINDS, copies=st.sets(hosts, max_size=2))
    def somebody_opens_a_database(self, document_id: str, node: int, kind: int, copies: set[int]) -> None:
        nodes = [self.world.model.node(each) for each in sorted(copies)]
        self.world.others.open(self.world.model.node(node), document_id, kind, nodes)

    @rule(node=hosts)
    def a_copy_stays_behind(self, node: int) -> None:
        self.world.stay_behind(node)

    # Ways to notice them

    @precondition(lambda self: self.world.listeners())
    @rule(data=st.data(), waits=st.integers(0, 3))
    def audit(self, data: st.DataObject, waits: int) -> None:
        self.a_listener(data)[1].audit(waits)

    @precondition(lambda self: self.world.instances)
    @rule(data=st.data(), document_id=st.sampled_from([*VICTIMS, UNKNOWN_USER]))
    def an_operator_asks_for_a_look(self, data: st.DataObject, document_id: str) -> None:
        self.an_instance(data).following.look([document_id], Lane.OPERATOR)

    def come_to_rest(self) -> None:
        super().come_to_rest()
        self.world.audit()
        self.world.look_again()


class ReportedOthersMachine(OthersMachine):
    """The same without making a database again that somebody deleted."""

    when_deleted = WhenDeleted.REPORT


class OthersFiveNodesMachine(OthersMachine):
    """The same on five nodes."""

    cuts = FiveNodesMachine.cuts

    def make_world(self) -> World:
        return World(nodes=5, databases=DatabasesConfig(when_deleted=self.when_deleted))
