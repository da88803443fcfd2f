"""The fleet's request to start a listener.

`daemon.start_messages` adds the configuration to a request, and so makes the start message.
"""

from collections.abc import Callable

import msgspec

from peruserd.core.cluster.views import Assignment
from peruserd.core.feed.rows import Sequence
from peruserd.core.processes.messages import ListenerStart
from peruserd.supervisor.listener import Conditions


class StartRequest(msgspec.Struct, frozen=True):
    """A request to start a listener. `resume_near` is the last checkpoint of a listener with a wider range."""

    assignment: Assignment
    conditions: Conditions
    resume_near: Sequence | None


StartMessage = Callable[[StartRequest], ListenerStart]
"""Makes the start message of a listener."""
