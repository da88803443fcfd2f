"""The workers of a listener: threads that take changes from the tracker, act on them and give them back."""

import threading
from collections.abc import Callable

from peruserd.core.feed.changes import Change
from peruserd.couch.errors import InterruptedRequestError
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.provisioner import Provisioner


class Workers:
    """A pool of threads that grows on demand. It keeps one idle thread, so a slow user never delays the next one.

    `most` is the largest number of threads. `on_error` gets exceptions that no change caused, such as a full disk; the
    listener cannot go on then.
    """

    def __init__(
        self, tracker: ChangeTracker, provisioner: Provisioner, most: int, on_error: Callable[[Exception], None]
    ) -> None:
        self._tracker = tracker
        self._provisioner = provisioner
        self._most = most
        self._on_error = on_error
        self._lock = threading.Lock()
        self._started = 0

    def start(self) -> None:
        """Start another worker if none is idle and the limit is not reached."""
        with self._lock:
            if self._started >= self._most or self._somebody_waits():
                return
            self._started += 1
            name = f"worker-{self._started}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _somebody_waits(self) -> bool:
        return self._tracker.in_flight < self._started

    def _run(self) -> None:
        try:
            change = self._tracker.take()
            while change is not None:
                if not self._somebody_waits():
                    self.start()
                change = self._serve(change)
        except InterruptedRequestError:
            # The listener is stopping. The checkpoint stays before the change, so the next start takes it up.
            return
        except Exception as error:  # noqa: BLE001 - handed to the main thread, which ends the process with it
            self._on_error(error)

    def _serve(self, change: Change) -> Change | None:
        """Act on a change; return the next one."""
        try:
            return self._tracker.exchange(change, self._provisioner.act(change))
        except Exception:
            self._tracker.abandon(change)
            raise
