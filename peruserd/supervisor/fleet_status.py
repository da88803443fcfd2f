"""The status of all listeners of an instance, for other threads."""

from typing import Protocol

import msgspec

from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.supervisor.listener import ListenerStatus


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


class StatusSource(Protocol):
    """A source of the status of all listeners, such as a fleet."""

    def status(self) -> FleetStatus:
        """Return the current status."""
        ...
