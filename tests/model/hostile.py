"""The rules by which Hypothesis adds foes to a world: a hostile user, other writers, and damage to copies."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from peruserd.core.common.names import database_name, user_name
from peruserd.simcluster.model import ids
from tests.model.foes import GENERATIONS, PARTNERS, PREFIX, odd_ids
from tests.model.machine import FiveNodesMachine, VictimsMachine
from tests.model.witness import AUTH_DB
from tests.model.world import USERS, World

MAL = USERS[1]
VICTIMS = USERS[:2]


def _some_odd_ids(document_id: str) -> list[str]:
    """Return two odd ids in the same range as the document with their shown id, and one that may be in another."""
    odd = odd_ids(document_id)
    half = 1 << 31
    beside = [each for each in odd if (ids.place(each) < half) == (ids.place(document_id) < half)]
    return [*beside[:2], odd[0]]


ODD = tuple(each for document_id in VICTIMS for each in _some_odd_ids(document_id))


class HostileMachine(VictimsMachine):
    """The same with a hostile user, a second writer, an operator, and copies that are damaged, restored or behind."""

    hosts = VictimsMachine.hosts
    victims = VictimsMachine.victims
    first_victims = VICTIMS

    def after_service(self) -> None:
        for document_id in VICTIMS:
            self.an_operator_lets_a_partner_in(document_id, 1, PARTNERS[0], 0)

    @rule(document_id=st.sampled_from([*VICTIMS, *ODD]), node=hosts, deleted=st.booleans(), then_rests=st.booleans())
    def act_before_a_change_is_everywhere(self, then_rests: bool, **change: Any) -> None:  # noqa: FBT001
        self.world.write_user(**change)
        self.everybody_works()
        if then_rests:
            # A wrong state is noticed before another event can repair it.
            self.world.settle()

    # A hostile user

    @rule(document_id=st.sampled_from(ODD), node=hosts, leaves=st.booleans())
    def sign_up_under_anothers_name(self, document_id: str, node: int, leaves: bool) -> None:  # noqa: FBT001
        self.world.write_user(document_id, node, deleted=False)
        if leaves:
            self.world.write_user(document_id, node, deleted=True)

    @rule(document_id=st.sampled_from(ODD), node=hosts)
    def delete_under_anothers_name(self, document_id: str, node: int) -> None:
        self.world.write_user(document_id, node, deleted=True)

    @rule(
        document_id=st.sampled_from([MAL, MAL, MAL, *ODD]),
        node=hosts,
        generation=st.sampled_from(GENERATIONS),
        tag=st.sampled_from("ab"),
        deleted=st.booleans(),
        extends=st.booleans(),
    )
    def graft(self, **how: Any) -> None:
        self.world.graft(**how)

    @rule(node=hosts, times=st.integers(1, 4), work=st.booleans())
    def make_and_delete_oneself_in_a_loop(self, node: int, times: int, work: bool) -> None:  # noqa: FBT001
        for _ in range(times):
            for deleted in (True, False):
                self.world.write_user(MAL, node, deleted=deleted)
                if work:
                    self.everybody_works()

    # Others who write

    @rule(document_id=victims, node=hosts)
    def another_writer_sees_a_row(self, document_id: str, node: int) -> None:
        self.world.writers.see(self.world.model.node(node), document_id)

    @rule(document_id=st.sampled_from(ODD[:2]), node=hosts)
    def another_writer_sees_an_odd_row(self, document_id: str, node: int) -> None:
        self.world.writers.see_odd(self.world.model.node(node), document_id)

    @rule(document_id=victims, node=hosts, partner=st.sampled_from(PARTNERS), kind=st.integers(0, 3))
    def an_operator_lets_a_partner_in(self, document_id: str, node: int, partner: str, kind: int) -> None:
        self.world.writers.share(self.world.model.node(node), document_id, partner, kind)
        for _ in range(2):
            self.world.writers.step(-1)

    @rule(document_id=victims, some=st.sets(hosts, min_size=1), kind=st.integers(0, 3))
    def operators_who_are_cut_off_write_different_things(self, document_id: str, some: set[int], kind: int) -> None:
        self.world.model.partition([[node.number] for node in self.world.model.nodes])
        for node in sorted(some):
            self.an_operator_lets_a_partner_in(document_id, node, f"partner{node}", kind)
        self.world.partition()

    @rule(document_id=victims, node=hosts, partner=st.sampled_from(PARTNERS), kind=st.integers(0, 3))
    def an_operator_begins_to_let_a_partner_in(self, document_id: str, node: int, partner: str, kind: int) -> None:
        self.world.writers.share(self.world.model.node(node), document_id, partner, kind)

    @precondition(lambda self: self.world.writers.tasks)
    @rule(index=st.integers(0, 3), steps=st.integers(1, 3))
    def another_writer_goes_on(self, index: int, steps: int) -> None:
        for _ in range(steps):
            if self.world.writers.tasks:
                self.world.writers.step(index)

    # Damage

    @rule(document_id=victims, node=hosts, kind=st.integers(0, 1))
    def blank(self, document_id: str, node: int, kind: int) -> None:
        database = database_name(PREFIX, user_name(document_id) or "")
        self.world.copy_damage.blank(self.world.model.node(node), database, kind)

    @rule(node=hosts)
    def back_up(self, node: int) -> None:
        self.world.copy_damage.back_up(self.world.model.node(node))

    @precondition(lambda self: self.world.copy_damage.backups)
    @rule(number=st.integers(0, 20))
    def restore(self, number: int) -> None:
        self.world.restore(number % len(self.world.copy_damage.backups))

    @rule(node=hosts, behind=st.booleans())
    def stay_behind_or_catch_up(self, node: int, behind: bool) -> None:  # noqa: FBT001
        at = self.world.model.node(node)
        (self.world.model.pause_replication if behind else self.world.model.resume_replication)(at, AUTH_DB)

    def come_to_rest(self) -> None:
        super().come_to_rest()
        self.world.look_again()


class HostileFiveNodesMachine(HostileMachine):
    """The same on five nodes."""

    cuts = FiveNodesMachine.cuts

    def make_world(self) -> World:
        return World(nodes=5)
