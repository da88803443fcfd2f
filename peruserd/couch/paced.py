"""A session with a limited rate of requests, for background work."""

from collections.abc import Callable
from typing import Any

from peruserd.core.processes.messages import Token
from peruserd.couch.answers import Answer
from peruserd.couch.session import Session


class PacedSession(Session):
    """Calls `before_request` before each request. An exception from it is raised instead of sending the request."""

    def __init__(self, *arguments: Any, before_request: Callable[[], None], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._before_request = before_request

    def exchange(self, token: Token, method: str, path: str, **more: Any) -> Answer:
        """Send one request, once `before_request` has returned."""
        self._before_request()
        return super().exchange(token, method, path, **more)
