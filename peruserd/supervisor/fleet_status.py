"""The standing of all listeners of an instance together, as other threads read it."""

from typing import Protocol

import msgspec

from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.supervisor.listener import ListenerStatus


class FleetStatus(msgspec.Struct, frozen=True):
    """All listeners, the counters of all that ever ran, and the parts of the plan nobody can read."""

    listeners: tuple[ListenerStatus, ...]
    counters: Counters
    stops: dict[Reason, int]
    unreadable: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Say whether every listener of the plan has caught up."""
        return bool(self.listeners) and all(each.caught_up for each in self.listeners)

    @property
    def healthy(self) -> bool:
        """Say whether no listener has given up."""
        return all(each.state is not State.FAILED for each in self.listeners)


class StatusSource(Protocol):
    """Says how the listeners of an instance stand, as a fleet does."""

    def status(self) -> FleetStatus:
        """Return how they stand now."""
        ...
