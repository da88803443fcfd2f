"""Log lines: structured, on standard error, for people on a terminal and as JSON elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from peruserd.core.configuration.config import LogConfig, LogFormat, LogLevel

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

# Without local variables: those of a request hold its credentials.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


class _Log:
    """A stream that takes lines where it can. A disk that is full must keep nobody from being served.

    Lines that do not fit are lost, apart from the few that the stream keeps until there is room.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write a line, or lose it."""
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Write what is kept, or keep it."""
        with suppress(OSError):
            self._stream.flush()


def configure(config: LogConfig, **context: str) -> None:
    """Set up logging for this process, with `context` in each of its lines, whichever thread writes them."""

    def add_context(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {**context, **event}

    on_terminal = sys.stderr.isatty()
    for_people = config.format is LogFormat.CONSOLE or (config.format is LogFormat.AUTO and on_terminal)
    rendering: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback)]
        if for_people
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            add_context,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        # Standard error carries the lines of all of an instance's processes, so each is one write.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Log(sys.stderr))),
        cache_logger_on_first_use=True,
    )
