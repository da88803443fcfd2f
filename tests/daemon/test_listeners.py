"""Orders about the listeners of an instance, with a fleet that only says what it is told."""

import msgspec
import pytest

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range
from peruserd.core.processes.control import Answer, Done, Refused, Restarting, RestartListener
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import State
from peruserd.daemon import listeners
from peruserd.daemon.listeners import ListenerOrders
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus

LOWER, UPPER = (Copy("_users", each, "n1", ".1") for each in (Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)))


def listener(copy: Copy, *, starts: int = 1, is_reading: bool = True) -> ListenerStatus:
    """Return the status of a listener."""
    return ListenerStatus(
        copy, State.RUNNING, None, 0, pid=1, report=None, caught_up=True, is_reading=is_reading, starts=starts
    )


class ToldFleet:
    """A fleet that notes orders; `steps` are its listeners from one look to the next, and the last step stays."""

    def __init__(self, *steps: tuple[ListenerStatus, ...]) -> None:
        self.steps = list(steps)
        self.restarted: list[Copy] = []

    def status(self) -> FleetStatus:
        """Return the next step."""
        now = self.steps[0] if len(self.steps) == 1 else self.steps.pop(0)
        return FleetStatus(now, Counters(), {}, unreadable=())

    def answers(self, order: RestartListener) -> list[Answer]:
        """Carry out an order; each look at the clock is ten seconds later."""
        moments = iter(range(0, 10_000, 10))
        return list(ListenerOrders(self, self.restarted.append, lambda: float(next(moments))).carry_out(order, 0))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no look at a listener wait for the next one."""
    monkeypatch.setattr(listeners, "_POLL_SECONDS", 0.0)


@pytest.mark.parametrize("name", [str(LOWER), str(LOWER.range)])
def test_an_order_waits_for_a_new_process_that_reads_its_copy(name: str) -> None:
    """A listener can be called by its copy or by its range. The old process does not count."""
    fleet = ToldFleet(
        (listener(LOWER), listener(UPPER)),
        (listener(LOWER), listener(UPPER)),
        (listener(LOWER, starts=2, is_reading=False), listener(UPPER)),
        (listener(LOWER, starts=2), listener(UPPER)),
    )
    assert fleet.answers(RestartListener(name)) == [Restarting(str(LOWER)), Done()]
    assert fleet.restarted == [LOWER]
    assert len(fleet.steps) == 1


def test_an_order_need_not_wait() -> None:
    """The daemon answers as soon as it has passed the order on."""
    fleet = ToldFleet((listener(LOWER),), ())
    assert fleet.answers(RestartListener(str(LOWER), waits=False)) == [Restarting(str(LOWER)), Done()]


@pytest.mark.parametrize("name", ["", "nobody", "00000000-7fffffff@n2"])
def test_a_listener_that_is_not_here_is_not_started(name: str) -> None:
    """Another instance may have it."""
    fleet = ToldFleet((listener(LOWER),))
    (answer,) = fleet.answers(RestartListener(name))
    assert isinstance(answer, Refused)
    assert not answer.again
    assert fleet.restarted == []


def test_a_name_of_two_listeners_is_refused_with_both() -> None:
    """While a copy moves, one range can be read on two nodes."""
    elsewhere = msgspec.structs.replace(LOWER, node="n2")
    fleet = ToldFleet((listener(LOWER), listener(elsewhere)))
    (answer,) = fleet.answers(RestartListener(str(LOWER.range)))
    assert isinstance(answer, Refused)
    assert str(LOWER) in answer.why
    assert str(elsewhere) in answer.why
    assert fleet.restarted == []


def test_the_wait_has_an_end() -> None:
    """The node of the copy can be away for days."""
    fleet = ToldFleet((listener(LOWER),), (listener(LOWER, starts=2, is_reading=False),))
    _, answer = fleet.answers(RestartListener(str(LOWER)))
    assert isinstance(answer, Refused)
    assert answer.again


def test_a_listener_that_leaves_the_plan_is_not_waited_for() -> None:
    """Its copy has moved meanwhile."""
    fleet = ToldFleet((listener(LOWER),), ())
    _, answer = fleet.answers(RestartListener(str(LOWER)))
    assert isinstance(answer, Refused)
    assert "has left the plan" in answer.why


def test_the_database_feed_has_one_listener_by_its_name() -> None:
    """On a server without shards the copy is called like the database."""
    copy = Copy("_users", WHOLE_SPACE, "_local", feed=Feed.DATABASE)
    fleet = ToldFleet((listener(copy),), (listener(copy, starts=2),))
    assert fleet.answers(RestartListener("_users")) == [Restarting("_users"), Done()]
