"""The request to start a listener, which whoever knows the configuration makes a message of."""

from collections.abc import Callable

import msgspec

from peruserd.core.messages import ListenerStart, Sequence
from peruserd.core.views import Assignment
from peruserd.supervisor.listener import Conditions


class StartRequest(msgspec.Struct, frozen=True):
    """A request to start a listener; `begin_near` is how far a listener of a range around its own had come."""

    assignment: Assignment
    conditions: Conditions
    begin_near: Sequence | None


StartMessage = Callable[[StartRequest], ListenerStart]
"""Makes the start message of a listener."""
