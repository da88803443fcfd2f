"""The order of a drop and of serving its user, in one listener.

The document is read once more before a drop, and a user can sign up again after that. A worker would let the user in,
and the drop would take the user's new documents along. So serving such a user waits for the drop.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DropsUnderWay:
    """Knows the user whose database is being dropped; for any thread that serves, and the one that drops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._document: str | None = None

    @contextmanager
    def dropping(self, document_id: str) -> Iterator[None]:
        """Let those wait who serve this user, from the last reading of the document until the drop is over.

        A worker who read the document before that is no danger: the last reading shows what it has shown.
        """
        self._set(document_id)
        try:
            yield
        finally:
            self._set(None)

    def wait(self, document_id: str) -> None:
        """Wait while this user's database is being dropped, which is as long as a few requests take."""
        # Without the lock, because each user is asked for and hardly any is being dropped. A drop that begins after
        # this reads the document later than this worker does.
        if self._document != document_id:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._document != document_id)

    def _set(self, document_id: str | None) -> None:
        with self._changed:
            self._document = document_id
            self._changed.notify_all()
