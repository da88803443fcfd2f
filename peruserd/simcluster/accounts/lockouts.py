"""Accounts that are locked for a while after wrong passwords: CouchDB 3.4 and later (`couch_auth_lockout`). Pure.

Each node counts for itself, by the client's address, the account's name and its salt. A new password starts at zero.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from peruserd.simcluster.model import errors

THRESHOLD: Final = 5
LOCK_SECONDS: Final = 300.0

_Key = tuple[str, str, str, str]


class _Failures(msgspec.Struct):
    count: int
    until: float


class Lockouts:
    """The wrong passwords of all nodes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.threshold = THRESHOLD
        self.seconds = LOCK_SECONDS
        self._clock = clock
        self._failures: dict[_Key, _Failures] = {}

    def require_unlocked(self, node: str, address: str, name: str, salt: str) -> None:
        """Refuse a request with a locked account, whether its password is right or wrong."""
        failures = self._current((node, address, name, salt))
        if failures is not None and failures.count >= self.threshold:
            raise errors.forbidden("Account is temporarily locked due to multiple authentication failures")

    def count(self, node: str, address: str, name: str, salt: str) -> None:
        """Count a wrong password; the lock ends a fixed time after the first."""
        key = (node, address, name, salt)
        failures = self._current(key)
        if failures is None:
            failures = self._failures[key] = _Failures(0, self._clock() + self.seconds)
        failures.count += 1

    def clear(self) -> None:
        """Forget all wrong passwords, as if the time was over."""
        self._failures.clear()

    def _current(self, key: _Key) -> _Failures | None:
        if not self._failures:
            return None
        failures = self._failures.get(key)
        return failures if failures is not None and failures.until > self._clock() else None
