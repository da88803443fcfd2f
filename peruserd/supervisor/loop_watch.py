"""The loop watch: a thread that ends the process if the supervisor's loop stands still.

Such a loop cannot end the instance in order: it would be the one to do that. Listeners end with their parent, and the
outer supervisor starts all anew.
"""

import os
from collections.abc import Callable
from typing import Final

import structlog

from peruserd import tracebacks
from peruserd.repeated_task import RepeatedTask
from peruserd.supervisor.loop import Outcome

# The time between two looks. Looks are counted, not seconds, because a paused container does not look either.
_LOOK_SECONDS: Final = 10.0

# The loop may be seen in the same round this often. A fork server that hangs holds it up for less than half of this.
_MAX_LOOKS: Final = 12

# The stacks and the words take milliseconds, unless another thread hangs in the middle of a line.
_WORDS_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class LoopWatch:
    """Looks at `last_round`, the time of the loop's last round, from its own thread."""

    def __init__(self, last_round: Callable[[], float], end: Callable[[int], None] = os._exit) -> None:
        self._last_round = last_round
        self._end = end
        self._seen: float | None = None
        self._looks = 0
        self._task = RepeatedTask("loop-watch", self._turn)

    def start(self) -> None:
        """Begin to watch."""
        self._task.start()

    def stop(self) -> None:
        """End the watch, because the loop ends."""
        self._task.stop()
        self._task.join()

    def _turn(self) -> float:
        before, self._seen = self._seen, self._last_round()
        self._looks = self._looks + 1 if self._seen == before else 0
        if self._looks >= _MAX_LOOKS:
            # From here on the process ends, even if nothing can be logged.
            tracebacks.end_later(_WORDS_SECONDS)
            tracebacks.dump()
            # The last line is what `systemctl status` shows of the log.
            log.critical("the supervisor's loop stands still; the process ends", seconds=self._looks * _LOOK_SECONDS)
            self._end(Outcome.EXHAUSTED)
        return _LOOK_SECONDS
