"""Structured log lines on standard error: readable on a terminal, JSON elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import Any, Final, TextIO, cast

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


# Each module keeps a logger of this class from its first line on. So a new level changes the methods of the class.
_Logger: Final = type("Logger", (structlog.make_filtering_bound_logger(logging.DEBUG),), {})


class _Style:
    """The last processor: adds the context to a line, and makes its text. Both can be changed between two lines."""

    def __init__(self) -> None:
        self.context: dict[str, str] = {}
        self.rendering: tuple[Processor, ...] = ()

    def __call__(self, logger: object, method: str, event: EventDict) -> Any:
        """Return the text of a line."""
        line: Any = {**self.context, **event}
        for process in self.rendering:
            line = process(logger, method, line)
        return line


_style: Final = _Style()


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
    _style.context = context
    reconfigure(config)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _style,
        ],
        wrapper_class=_Logger,
        # All processes of an instance share standard error, so each line is a single write.
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Log(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def reconfigure(config: LogConfig) -> None:
    """Take another level and form for all lines of this process; for any thread."""
    on_terminal = sys.stderr.isatty()
    for_people = config.format is LogFormat.CONSOLE or (config.format is LogFormat.AUTO and on_terminal)
    _style.rendering = (
        (structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=structlog.dev.plain_traceback),)
        if for_people
        else (_TRACEBACKS, structlog.processors.JSONRenderer())
    )
    # A method below the level does nothing, which costs least.
    for name, method in vars(structlog.make_filtering_bound_logger(_LEVELS[config.level])).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)
