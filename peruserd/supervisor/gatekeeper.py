"""The part of the instance that logs in at CouchDB, as the fleet needs it."""

from collections.abc import Hashable
from typing import Protocol

from peruserd.core.processes.messages import Reauthenticate


class Gatekeeper(Protocol):
    """The part of the instance that logs in at CouchDB. Its methods return at once."""

    def check_token(self, who: Hashable, number: int, node: str | None) -> None:
        """Check whether the server still takes a listener's token; the result goes to `Fleet.send_token`."""

    def state(self) -> Reauthenticate:
        """Return the token that requests carry now."""
