"""The request to start a listener, which whoever knows the configuration makes a message of."""

from collections.abc import Callable

import msgspec

from peruserd.core.cluster.views import Assignment
from peruserd.core.feed.rows import Sequence
from peruserd.core.processes.messages import ListenerStart
from peruserd.supervisor.listener import Conditions


class StartRequest(msgspec.Struct, frozen=True):
    """A request to start a listener; `resume_near` is how far a listener of a range around its own had come."""

    assignment: Assignment
    conditions: Conditions
    resume_near: Sequence | None


StartMessage = Callable[[StartRequest], ListenerStart]
"""Makes the start message of a listener."""
