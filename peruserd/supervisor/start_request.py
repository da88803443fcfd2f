"""The fleet's request to start a listener. A function that knows the configuration makes the start message of it."""

from collections.abc import Callable

import msgspec

from peruserd.core.cluster.views import Assignment, Copy
from peruserd.core.feed.rows import Sequence
from peruserd.core.processes.messages import ListenerStart, Reconfigure
from peruserd.supervisor.listener import Conditions, SupervisedListener


class StartRequest(msgspec.Struct, frozen=True):
    """A request to start a listener. `resume_near` is the last checkpoint of a listener with a wider range."""

    assignment: Assignment
    conditions: Conditions
    resume_near: Sequence | None


StartMessage = Callable[[StartRequest], ListenerStart]
"""Makes the start message of a listener."""


class Departures:
    """The last checkpoint of each listener that was stopped because its copy left the plan.

    After a split of a range, the listeners of the two halves start near there.
    """

    def __init__(self) -> None:
        self._left_at: dict[Copy, Sequence] = {}

    def note(self, listener: SupervisedListener) -> None:
        """Note a listener whose copy leaves the plan."""
        if listener.report is not None and listener.report.checkpoint is not None:
            self._left_at[listener.copy] = listener.report.checkpoint

    def request(self, listener: SupervisedListener) -> StartRequest:
        """Return the request to start a listener."""
        unsplit = [each for each in self._left_at if each.can_have_split_into(listener.copy)]
        # The narrowest range is the newest, because CouchDB only ever splits ranges.
        nearest = min(unsplit, key=lambda each: each.range.width, default=None)
        return StartRequest(
            assignment=listener.assignment,
            conditions=listener.conditions,
            resume_near=None if nearest is None else self._left_at[nearest],
        )


class FleetSettings(msgspec.Struct, frozen=True):
    """The settings of a fleet after a reload of the configuration.

    `message` is what listeners take over while they run. If `renews` is true, the rest has changed as well, and each
    listener must start again.
    """

    start_message: StartMessage
    message: Reconfigure
    max_in_flight: int
    new_per_minute: int
    renews: bool
