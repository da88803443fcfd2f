"""Words of others in the form of the log: warnings of libraries and of Python, and errors that end the process.

By default they go to standard error as they are, over several lines, with addresses of users' databases in them.
"""

import logging
import sys
from types import TracebackType
from typing import Final

import structlog

_log = structlog.get_logger(__name__)


# Whoever makes a request reports its failure, and need not be told that it was tried again.
_QUIET: Final = "urllib3.connectionpool"


class _Bridge(logging.Handler):
    """Hands what libraries log to this program's log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a line of a library."""
        try:
            words = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a library's mistake in its own words, of any kind
            words = f"{record.msg!r}, with words that cannot be made: {error!r}"
        say = _log.error if record.levelno >= logging.ERROR else _log.warning
        say("a library says", library=record.name, words=words, exc_info=record.exc_info)


def take_over() -> None:
    """Log the warnings of libraries and of Python, and errors that nobody can handle; once in each process."""
    root = logging.getLogger()
    root.handlers = [_Bridge(logging.WARNING)]
    root.setLevel(logging.WARNING)
    logging.getLogger(_QUIET).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.unraisablehook = _log_unraisable


def log_the_end() -> None:
    """Log the error that ends this process, if one does. Commands show a traceback instead, for a report of the bug."""
    sys.excepthook = _log_the_end


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _log.critical("the process ends because of an error", exc_info=error)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Log an error of code that Python itself calls, such as the end of an object."""
    _log.error("an error could not be handled", within=repr(unraisable.object), exc_info=unraisable.exc_value)
