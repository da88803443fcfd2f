"""Asking the daemon on this machine, by its HTTP page, which users it keeps in quarantine.

It need not be there, it need not be open, and something else can listen in its place. Then nothing is known.
"""

from typing import Final
from urllib.parse import quote

import msgspec
import requests

from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.configuration.decoding import split_address
from peruserd.core.users.readiness import Readiness, UserState

_TIMEOUT_SECONDS: Final = 10.0

# An answer has the name of a user, which is short.
_MAX_BYTES: Final = 16_384


class LocalDaemon:
    """The daemon that a configuration is about; from any number of threads."""

    def __init__(self, http: HTTPConfig) -> None:
        host, port = split_address(http.listen)
        # Nobody knows the port where any free one was asked for.
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}/users/" if port else None

    def quarantined(self, user: str) -> Readiness | None:
        """Return what it says of a user whom it keeps in quarantine; None where it does not say that."""
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
            # Proxies of the environment are not for this machine, and ~/.netrc has no password for it.
            session.trust_env = False
            with session.get(url, timeout=_TIMEOUT_SECONDS, allow_redirects=False, stream=True) as answer:
                return next(answer.iter_content(_MAX_BYTES), b"")
