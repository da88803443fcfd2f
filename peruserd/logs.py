"""Structured log lines on standard error: readable on a terminal, JSON elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from peruserd.core.configuration.choices import LogFormat, LogLevel
from peruserd.core.configuration.config import LogConfig

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

# Tracebacks leave local variables out, because those of a request hold its credentials.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


class _Log:
    """A stream that ignores errors, because a full disk must not keep users from being served.

    Lines that cannot be written are lost, apart from a few in the stream's buffer.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write a line, or lose it."""
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Write the buffer, or keep it."""
        with suppress(OSError):
            self._stream.flush()


def configure(config: LogConfig, **context: str) -> None:
    """Set up logging for this process; each line of every thread has `context`."""

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
        # All processes of an instance share standard error, so each line is a single write.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Log(sys.stderr))),
        cache_logger_on_first_use=True,
    )
