"""Asking the daemon on this machine, over HTTP, which users it keeps in quarantine.

The daemon may not run, its page may be closed, or another program may listen at its port. Then the answer is None.
"""

import time
from collections.abc import Callable
from typing import Final

from peruserd.core.configuration.config import CouchDBConfig, HTTPConfig
from peruserd.core.configuration.decoding import split_address
from peruserd.core.users.readiness import Readiness, UserState
from peruserd.couch.errors import CouchError, TimedOutError
from peruserd.couch.session import Session, quoted
from peruserd.couch.tokens import NOBODY, Tokens

_TIMEOUT_SECONDS: Final = 10.0

# After a time-out the daemon is not asked for this long. Otherwise a wait for many users would take one for each user.
_SILENT_SECONDS: Final = 60.0

# An answer holds one user name, so it is short.
_MAX_BYTES: Final = 16_384


class LocalDaemon:
    """The daemon of a configuration; `threads` may call at once."""

    def __init__(
        self,
        http: HTTPConfig,
        threads: int = 1,
        *,
        seconds: float = _TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host, port = split_address(http.listen)
        self._session: Session | None = None
        # With port 0 the kernel chooses the port, so this program cannot know it.
        if port:
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            page = CouchDBConfig(url=url, connect_timeout=seconds, read_timeout=seconds)
            # The requests carry no password, because another program may listen at this port.
            self._session = Session(page, Tokens(NOBODY), connections=threads)
        self._clock = clock
        self._silent_until = float("-inf")

    def quarantined(self, user: str) -> Readiness | None:
        """Return the daemon's answer if it has the user in quarantine; None if not, or if it does not answer."""
        if self._session is None or self._clock() < self._silent_until:
            return None
        try:
            answer = self._session.exchange(NOBODY, "GET", f"/users/{quoted(user)}", limit_bytes=_MAX_BYTES)
            found = answer.decode(Readiness)
        except TimedOutError:
            self._silent_until = self._clock() + _SILENT_SECONDS
            return None
        except CouchError:
            return None
        return found if found.user == user and found.state is UserState.QUARANTINED else None
