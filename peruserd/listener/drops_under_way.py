"""The order of a drop and of serving its user, in one listener.

The document is read once more before a drop, and a user can sign up again after that. A worker would let the user in,
and the drop would take the user's new documents along. So a worker waits for the drop between two steps: it has read
the document, and it has not let the user in.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from peruserd import threads


class DropsUnderWay:
    """Knows the user whose database is being dropped. Workers call `wait`, and one thread drops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._document: str | None = None

    @contextmanager
    def dropping(self, document_id: str) -> Iterator[None]:
        """Let workers with this user wait, from before the last reading of the document until the drop is over."""
        self._set(document_id)
        try:
            yield
        finally:
            self._set(None)

    def wait(self, document_id: str) -> None:
        """Wait while this user's database is being dropped, which is as long as a few requests take.

        The worker has read the document before this. A drop that begins later reads the document later than the worker
        did, so it sees the user too.
        """
        # The lock is not taken for this single read, because hardly any user's database is being dropped.
        if self._document != document_id:
            return
        with self._changed, threads.WAITING:
            self._changed.wait_for(lambda: self._document != document_id)

    def _set(self, document_id: str | None) -> None:
        with self._changed:
            self._document = document_id
            self._changed.notify_all()
