"""The start of an instance: until it is over, an error of the machine says to try again later."""

from types import TracebackType
from typing import Self

import structlog

from peruserd.core.configuration.problems import TemporaryError
from peruserd.core.processes.shortages import NO_THREAD

log = structlog.get_logger(__name__)


class Start:
    """A context in which an instance is started and run. `is_over` is set once it has started.

    Before that, an error that comes from a shortage (of descriptors, memory, threads or room on the disk) becomes a
    TemporaryError. All other errors, and those after the start, are faults of the program, and pass unchanged.
    """

    def __init__(self) -> None:
        self.is_over = False

    def __enter__(self) -> Self:
        """Begin the start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise TemporaryError in place of an error of the machine."""
        if self.is_over or error is None:
            return
        if isinstance(error, OSError | MemoryError) or str(error) == NO_THREAD:
            log.debug("start failed", exc_info=error)
            problem = f"this machine does not allow the start now: {str(error) or type(error).__name__}"
            raise TemporaryError([problem]) from error
