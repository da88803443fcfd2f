"""The setup of the log of a process, and the change of its level and form while the process runs."""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from peruserd.core.common.log_values import Limits, bounded
from peruserd.core.common.pseudonyms import HIDDEN, Pseudonyms, hashed
from peruserd.core.configuration.choices import LogFormat, LogLevel, LogUsers
from peruserd.core.configuration.config import DatabasesConfig, LogConfig
from peruserd.logs import strangers
from peruserd.logs.output import Output
from peruserd.logs.rendering import Render, for_people, for_people_in_color, for_programs, with_error

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

_PSEUDONYMS: Final[dict[LogUsers, Callable[[str], str] | None]] = {
    LogUsers.HASH: hashed,
    LogUsers.NAME: None,
    LogUsers.NONE: lambda _name: HIDDEN,
}

# Each module keeps a logger of this class from its first line on. So a new level changes the methods of the class.
_Logger: Final = type("Logger", (structlog.make_filtering_bound_logger(logging.DEBUG),), {})


# Longer texts are cut before they are searched for names. What is left is cut once more to fit into a line.
_SEARCHED: Final = Limits(characters=65_536, items=1_000)


class _Log:
    """The end of the pipeline: adds the context to an event, makes its line, and writes it.

    Everything can be changed between two lines.
    """

    def __init__(self) -> None:
        self.context: dict[str, str] = {}
        self.prefix = DatabasesConfig().prefix
        self.pseudonyms: Pseudonyms | None = None
        self.for_program = True
        self.render: Render = for_programs
        self.output = Output(None)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> Any:
        """Write a line."""
        whole = with_error({**self.context, **event}, for_program=self.for_program)
        if (pseudonyms := self.pseudonyms) is not None:
            searched: Any = bounded(whole, _SEARCHED)
            whole = pseudonyms.in_place_of_names(searched)
        line = self.render(whole)
        self.output.write_line(line, lambda lost: self._say_lost(lost, event))
        raise structlog.DropEvent

    def _say_lost(self, lost: int, event: EventDict) -> str:
        said = {"event": "log lines could not be written, and are lost", "level": "warning", "lines": lost}
        return self.render({**self.context, **said, "timestamp": event.get("timestamp", "")})


_log: Final = _Log()


def configure(config: LogConfig, prefix: str, **context: str) -> None:
    """Set up logging for this process; each line of every thread has `context`.

    `prefix` is that of users' databases, whose names are names of users as well.
    """
    _log.context, _log.prefix = context, prefix
    _log.output = Output(sys.stderr)
    reconfigure(config)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _log,
        ],
        wrapper_class=_Logger,
        cache_logger_on_first_use=True,
    )
    strangers.take_over()


def without_names(text: str) -> str:
    """Return a text for another place that is kept like a log, with users named as in the log."""
    if (pseudonyms := _log.pseudonyms) is None:
        return text
    return str(pseudonyms.in_place_of_names({"text": text})["text"])


def reconfigure(config: LogConfig) -> None:
    """Take another level and form for all lines of this process; for any thread."""
    on_terminal = _log.output.is_terminal
    by_people = for_people_in_color if on_terminal else for_people
    _log.for_program = config.format is LogFormat.JSON or (config.format is LogFormat.AUTO and not on_terminal)
    _log.render = for_programs if _log.for_program else by_people
    pseudonym = _PSEUDONYMS[config.users]
    _log.pseudonyms = None if pseudonym is None else Pseudonyms(_log.prefix, pseudonym)
    # A method below the level does nothing, which costs least.
    for name, method in vars(structlog.make_filtering_bound_logger(_LEVELS[config.level])).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)
