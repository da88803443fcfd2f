"""The cluster watch: a thread that reads the cluster again and again, and hands each view on.

It only reads; the supervisor's loop decides what follows from a view.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

from peruserd.core.cluster.views import View
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.repeated_task import RepeatedTask
from peruserd.supervisor.pausing import Pauses

# The least time between two readings, even on request: a reading is four requests, and few changes are more urgent.
_MIN_SECONDS: Final = 0.2

log = structlog.get_logger(__name__)


class ClusterWatch:
    """Reads the cluster every `interval_seconds`, in its own thread, and passes each view on.

    `on_failure` is called after each reading that failed, or whose view could not be passed on. Any thread may read the
    attributes:

    - `failures`: how many readings in a row have failed. `failures_in_all`: how many since the start.
    - `trouble`: why the last one failed; None if it succeeded.
    - `succeeded_at`: the monotonic time of the last reading that succeeded; None before the first one.
    """

    def __init__(
        self,
        read_once: Callable[[], View],
        *,
        interval_seconds: float,
        on_view: Callable[[View], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._read_once = read_once
        self._interval = interval_seconds
        self._on_view = on_view
        self._on_failure = on_failure
        # A listener whose copy stays away asks again and again.
        self._task = RepeatedTask("cluster-watch", self._turn, min_pause_seconds=_MIN_SECONDS)
        self._pauses = Pauses()
        self.failures = self.failures_in_all = 0
        self.trouble: str | None = None
        self.succeeded_at: float | None = None

    def start(self) -> None:
        """Start the thread."""
        self._task.start()

    def stop(self) -> None:
        """Stop reading; returns at once. A request under way ends by itself, or when its session is interrupted."""
        self._task.stop()

    def set_interval(self, seconds: float) -> None:
        """Take another interval, from the next reading on; for any thread."""
        self._interval = seconds
        self.read_soon()

    def read_soon(self) -> None:
        """Read at once instead of after the interval, because something has changed."""
        # Listeners lose their copies also if the node is away or refuses us. Then the back-off after failures stays.
        if not self.failures:
            self._task.soon()

    def _turn(self) -> float | None:
        """Read once; return the pause until the next reading, None if this one was interrupted."""
        try:
            self._on_view(self._read_once())
        except InterruptedRequestError:
            return None
        except CouchError as error:
            return self._failed(error.kind, error)
        except Exception as error:
            self._failed("unforeseen", error)
            raise
        if self.failures:
            log.info("cluster can be seen again", failures=self.failures)
        self.failures = 0
        self.trouble = None
        self.succeeded_at = time.monotonic()
        return self._interval

    def _failed(self, kind: str, error: Exception) -> float:
        self._on_failure()
        self.failures += 1
        self.failures_in_all += 1
        self.trouble = str(error) or type(error).__name__
        if self.failures == 1:
            log.warning("cluster cannot be seen; the last view stays in force", kind=kind, error=str(error))
        return max(self._interval, self._pauses.after(error, self.failures))
