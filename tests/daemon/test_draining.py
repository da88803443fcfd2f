"""Orders to give up documents, with parts of an instance that only say what the test wants."""

from typing import Any

import msgspec
import pytest

from peruserd.core.cluster.leases import PROTOCOL, Lease, LeaseStatus
from peruserd.core.cluster.views import Copy, Feed, View
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.processes.control import Answer, Done, Drain, Refused
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.daemon import draining as draining_module
from peruserd.daemon.draining import Draining
from peruserd.supervisor.attaching import Attachment
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.membership import Member, Peer

VIEW = View(nodes=("n1", "n2"), instances=("n1", "n2"), shard_map=None, me="n1")
GIVEN_UP = msgspec.structs.replace(VIEW, instances=("n2",), drained=("n1",))
OTHER = Lease("n2", "other", 7, protocol=PROTOCOL)
LISTENER = ListenerStatus(Copy("_users", WHOLE_SPACE, "n1"), State.RUNNING, None, 0, pid=7, report=None, caught_up=True)


class Told:
    """An instance beside n1. It has a listener until its plan leaves all documents to others."""

    def __init__(self, *others: Lease, view: View | None = VIEW) -> None:
        self.view = view
        self.others = others
        self.listeners: tuple[ListenerStatus, ...] = (LISTENER,)
        self.written: Lease | None = Lease("n1", "me", 3, protocol=PROTOCOL)
        self.renewals = 0
        self.readings = 0
        self.attached: Attachment | None = Attachment("n1", Feed.SHARD)
        self.member = Member(incarnation="me", replaces=None, ttl_seconds=20.0, version="1")
        self.seconds = 0.0
        self.subject = Draining(
            self.member,
            self,  # type: ignore[arg-type]
            self,
            lambda: self,  # type: ignore[arg-type, return-value]
            self,  # type: ignore[arg-type]
            self.read_soon,
            lambda: 0.0,
            self.clock,
        )
        self.member.peers = lambda _now: [Peer(each, LeaseStatus.ALIVE) for each in self.others]  # type: ignore[assignment, method-assign]

    @property
    def views(self) -> tuple[View, View] | None:
        return None if self.view is None else (self.view, self.view)

    def status(self) -> FleetStatus:
        return FleetStatus(self.listeners, Counters(), {}, unreadable=())

    def clock(self) -> float:
        """Let each look at the clock be a second later, and something happen meanwhile."""
        self.seconds += 1.0
        self.happens()
        return self.seconds

    def happens(self) -> None:
        """Let the parts do one step: the plan follows the order, the listener ends, the lease says so."""
        if self.view is VIEW and self.member.draining and self.readings:
            self.view = GIVEN_UP
        elif self.view is GIVEN_UP and self.listeners:
            self.listeners = ()
            self.subject.on_round()
        elif self.renewals:
            self.written = self.member.next_lease("n1", drained=self.subject.is_drained())

    def read_soon(self) -> None:
        self.readings += 1

    def renew_soon(self) -> None:
        self.renewals += 1

    def order(self, **fields: Any) -> list[Answer]:
        """Carry out an order."""
        return list(self.subject.carry_out(Drain(**fields), 0))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no wait take time."""
    monkeypatch.setattr(draining_module, "_POLL_SECONDS", 0.0)


def test_the_lease_says_that_documents_were_given_up_once_no_listener_is_left() -> None:
    """Then the others may act, and not before. The order is done when they have had time to read that."""
    told = Told(OTHER)
    (answer,) = told.order()
    assert isinstance(answer, Done)
    assert "can be taken down" in answer.notice
    assert told.written is not None
    assert told.written.drained
    assert told.renewals == 1
    assert not told.listeners


def test_while_a_listener_acts_the_lease_does_not_say_so() -> None:
    """The plan alone ends no process."""
    told = Told(OTHER)
    told.member.drain(on=True)
    told.view = GIVEN_UP
    assert not told.subject.is_drained()
    told.listeners = ()
    assert told.subject.is_drained()
    told.view = VIEW
    assert not told.subject.is_drained()


def test_the_lease_is_renewed_once_for_the_last_listener() -> None:
    """The loop goes round a hundred times a second."""
    told = Told(OTHER)
    told.subject.on_round()
    told.member.drain(on=True)
    told.view, told.listeners = GIVEN_UP, ()
    for _ in range(5):
        told.subject.on_round()
    assert told.renewals == 1


def test_nobody_need_wait() -> None:
    """The order is given, and goes on by itself."""
    told = Told(OTHER)
    (answer,) = told.order(waits=False)
    assert isinstance(answer, Done)
    assert told.member.draining


def test_without_another_instance_the_order_is_refused_or_noted() -> None:
    """The users are served here until somebody comes."""
    told = Told()
    (answer,) = told.order()
    assert isinstance(answer, Refused)
    assert not answer.again
    assert "--force" in answer.why
    assert not told.member.draining
    (answer,) = told.order(force=True)
    assert isinstance(answer, Done)
    assert "serves on" in answer.notice
    assert told.member.draining


def test_what_is_not_known_cannot_be_forced() -> None:
    """A later try may help."""
    told = Told(view=None)
    (answer,) = told.order(force=True)
    assert isinstance(answer, Refused)
    assert answer.again
    assert not told.member.draining


def test_a_server_without_shards_has_one_instance_only() -> None:
    """Others cannot hear of it."""
    told = Told(OTHER)
    told.attached = Attachment("_local", Feed.DATABASE)
    (answer,) = told.order(force=True)
    assert isinstance(answer, Refused)
    assert not answer.again


def test_an_order_is_undone_with_a_new_lease() -> None:
    """The others leave the documents alone once they read it."""
    told = Told(OTHER)
    told.order()
    renewals = told.renewals
    (answer,) = told.order(undo=True)
    assert isinstance(answer, Done)
    assert not told.member.draining
    assert told.renewals == renewals + 1


def test_an_order_that_is_undone_meanwhile_ends() -> None:
    """Two operators may disagree."""
    told = Told(OTHER)
    told.happens = lambda: told.member.drain(on=False) if told.seconds > 3 else None  # type: ignore[method-assign]
    (answer,) = told.order()
    assert isinstance(answer, Refused)
    assert "undone" in answer.why


def test_a_lease_that_cannot_be_written_is_not_waited_for_without_end() -> None:
    """The order stays, and goes on when the cluster takes writes again."""
    told = Told(OTHER)
    told.happens = lambda: None  # type: ignore[method-assign]
    (answer,) = told.order()
    assert isinstance(answer, Refused)
    assert answer.again
    assert told.member.draining
