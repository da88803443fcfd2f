"""The status of all listeners of an instance, for other threads."""

import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from peruserd.core.cluster.views import Copy, Plan
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.supervisor.listener import ListenerStatus, SupervisedListener

# The loop usually holds the lock for less than a millisecond.
_PATIENCE_SECONDS: Final = 0.5


class FleetStatus(msgspec.Struct, frozen=True):
    """The listeners, the counters of all listeners that ever ran, and the ranges that no instance can read.

    - `cut_off` says that the connected nodes of the plan are no majority.
    - `most_fail` says that most listeners fail in a row, so that a restart of the whole instance may help.
    """

    listeners: tuple[ListenerStatus, ...]
    counters: Counters
    stops: dict[Reason, int]
    unreadable: tuple[str, ...]
    cut_off: bool = False
    most_fail: bool = False

    @property
    def ready(self) -> bool:
        """Say whether every listener of the plan has caught up."""
        return bool(self.listeners) and all(each.caught_up for each in self.listeners)

    @property
    def failing(self) -> tuple[ListenerStatus, ...]:
        """Return the listeners that wait for their next try after they have failed more than once in a row."""
        return tuple(each for each in self.listeners if each.state is State.BACKOFF and each.failures > 1)


def status_of(
    listeners: Mapping[Copy, SupervisedListener],
    restarts: Mapping[Copy, int],
    retired: Counters,
    stops: Mapping[Reason, int],
    plan: Plan,
    *,
    most_fail: bool,
) -> FleetStatus:
    """Return the status of these listeners. `retired` are the counters of processes that have ended."""
    counters = Counters()
    counters.add(retired)
    for listener in listeners.values():
        if listener.report is not None:
            counters.add(listener.report.counters)
    return FleetStatus(
        listeners=tuple(each.status(restarts.get(copy, 0)) for copy, each in sorted(listeners.items())),
        counters=counters,
        stops=dict(stops),
        unreadable=tuple(str(each) for each in plan.unreadable),
        cut_off=plan.cut_off,
        most_fail=most_fail,
    )


class Published:
    """The newest status that `make` could return in time, with the lock. For any thread.

    The supervisor's loop can hold the lock for some seconds, as while a fork server does not answer. Who asks about
    health, or scrapes, must not wait so long. A loop that does not go round is noticed by its last round.
    """

    def __init__(self, lock: threading.Lock, make: Callable[[], FleetStatus]) -> None:
        self._lock = lock
        self._make = make
        self._latest = FleetStatus((), Counters(), {}, ())

    def get(self) -> FleetStatus:
        """Return the status, or the one before if the lock is not free soon."""
        if self._lock.acquire(timeout=_PATIENCE_SECONDS):
            try:
                self._latest = self._make()
            finally:
                self._lock.release()
        return self._latest


class StatusSource(Protocol):
    """A source of the status of all listeners, such as a fleet."""

    def status(self) -> FleetStatus:
        """Return the current status."""
        ...
