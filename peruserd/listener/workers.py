"""The workers of a listener: threads that take changes from the tracker, act on them and give them back."""

import threading
from collections.abc import Callable

import structlog

from peruserd.core.feed.changes import Change
from peruserd.couch.errors import InterruptedRequestError
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.provisioner import Provisioner
from peruserd.threads import LastingThread

log = structlog.get_logger(__name__)


class Workers:
    """A pool of threads that grows on demand. It keeps one idle thread, so a slow user never delays the next one.

    `most` is the largest number of threads. A smaller one than before ends no thread. `on_error` gets exceptions that
    no change caused, such as a full disk; the listener cannot go on then. `is_stopping` says whether the listener
    stops, so that threads may end.
    """

    def __init__(
        self,
        tracker: ChangeTracker,
        provisioner: Provisioner,
        most: int,
        on_error: Callable[[BaseException], None],
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._tracker = tracker
        self._provisioner = provisioner
        self.most = most
        self._on_error = on_error
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._started = 0
        self._logged = False

    def start(self) -> None:
        """Start another worker if none is idle and the limit is not reached."""
        with self._lock:
            if self._started >= self.most or self._somebody_waits():
                return
            self._started += 1
            name = f"worker-{self._started}"
        try:
            LastingThread(name, self._run, on_error=self._on_error).start()
        except RuntimeError as error:
            # No thread can be started now. Those that there are go on, and the next change asks for another one.
            with self._lock:
                self._started -= 1
                is_alone = not self._started
            if is_alone:
                raise
            self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        if not self._logged:
            self._logged = True
            log.warning("another worker cannot be started; fewer users are worked on at once", error=str(error))

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
            # If the listener stops, the checkpoint stays before the change, so the next start takes it up.
            if not self._is_stopping():
                raise

    def _serve(self, change: Change) -> Change | None:
        """Act on a change; return the next one."""
        try:
            return self._tracker.exchange(change, self._provisioner.act(change))
        except BaseException:
            self._tracker.abandon(change)
            raise
