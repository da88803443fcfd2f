"""Carries out an operator's orders about the instance itself: its status, and a new start of one of its listeners."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import structlog

from peruserd.core.cluster.views import Copy
from peruserd.core.processes.control import (
    Answer,
    AskStatus,
    Done,
    Refused,
    Restarting,
    RestartListener,
    StatusIs,
)
from peruserd.supervisor.fleet_status import StatusSource
from peruserd.supervisor.listener import ListenerStatus

# A start takes some tenths of a second, and a stop at most ten seconds. A node that is away can take for ever.
_PATIENCE_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.05

log = structlog.get_logger(__name__)


class StatusOrders:
    """Says the status. `as_json` returns it."""

    def __init__(self, as_json: Callable[[], bytes]) -> None:
        self._as_json = as_json

    def carry_out(self, _order: AskStatus, _uid: int) -> Iterator[Answer]:
        """Say the status; asking is no event, so it is not logged."""
        yield StatusIs(msgspec.Raw(self._as_json()))
        yield Done()


class ListenerOrders:
    """Starts a listener again. `restart` passes the order on to the supervisor's loop, and returns at once."""

    def __init__(
        self, fleet: StatusSource, restart: Callable[[Copy], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fleet = fleet
        self._restart = restart
        self._clock = clock

    def carry_out(self, order: RestartListener, uid: int) -> Iterator[Answer]:
        """Give the order of the user with this id, and wait for the new process if the order says so."""
        found = [each for each in self._fleet.status().listeners if order.listener in names_of(each)]
        if not found:
            yield Refused(f"no listener {order.listener!r} is here; `peruserd listeners` names them", again=False)
            return
        if len(found) > 1:
            copies = ", ".join(str(each.copy) for each in found)
            yield Refused(f"{order.listener!r} is more than one listener here: {copies}", again=False)
            return
        (before,) = found
        log.info("listener is to start again", copy=str(before.copy), by=uid)
        self._restart(before.copy)
        yield Restarting(str(before.copy))
        yield self._waited(before) if order.waits else Done()

    def _waited(self, before: ListenerStatus) -> Answer:
        until = self._clock() + _PATIENCE_SECONDS
        pause = threading.Event()
        while self._clock() < until:
            now = next((each for each in self._fleet.status().listeners if each.copy == before.copy), None)
            if now is None:
                return Refused(f"{before.copy} has left the plan meanwhile, so it has no listener here", again=False)
            if now.starts > before.starts and now.is_reading:
                return Done()
            pause.wait(_POLL_SECONDS)
        return Refused(f"the listener of {before.copy} does not read its copy yet; `peruserd listeners` shows it")


def names_of(listener: ListenerStatus) -> tuple[str, str]:
    """Return the names by which an operator can call a listener: its copy and its range."""
    return str(listener.copy), str(listener.copy.range)
