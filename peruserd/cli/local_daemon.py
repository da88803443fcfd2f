"""Asking the daemon on this machine, over HTTP, which users it keeps in quarantine.

The daemon may not run, its page may be closed, or another program may listen there. Then nothing is known.
"""

from typing import Final
from urllib.parse import quote

import msgspec
import requests

from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.configuration.decoding import split_address
from peruserd.core.users.readiness import Readiness, UserState

_TIMEOUT_SECONDS: Final = 10.0

# An answer holds one user name, so it is short.
_MAX_BYTES: Final = 16_384


class LocalDaemon:
    """The daemon of a configuration; any thread may call."""

    def __init__(self, http: HTTPConfig) -> None:
        host, port = split_address(http.listen)
        # With port 0 the daemon takes any free port, so the port is unknown here.
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}/users/" if port else None

    def quarantined(self, user: str) -> Readiness | None:
        """Return the daemon's answer about a user, if the user is in quarantine; None otherwise."""
        if self._url is None:
            return None
        try:
            found = msgspec.json.decode(self._answer(self._url + quote(user, safe="")), type=Readiness)
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
            return None
        return found if found.user == user and found.state is UserState.QUARANTINED else None

    @staticmethod
    def _answer(url: str) -> bytes:
        with requests.Session() as session:
            # Proxies and the passwords of ~/.netrc are for other machines, so they are not used.
            session.trust_env = False
            with session.get(url, timeout=_TIMEOUT_SECONDS, allow_redirects=False, stream=True) as answer:
                return next(answer.iter_content(_MAX_BYTES), b"")
