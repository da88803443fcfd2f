"""The setup of the log of a process, and the change of its level and form while the process runs."""

import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from peruserd.core.configuration.choices import LogFormat, LogLevel
from peruserd.core.configuration.config import LogConfig
from peruserd.logs import strangers
from peruserd.logs.output import Output
from peruserd.logs.rendering import Render, for_people, for_people_in_color, for_programs

_LEVELS: Final = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

# Each module keeps a logger of this class from its first line on. So a new level changes the methods of the class.
_Logger: Final = type("Logger", (structlog.make_filtering_bound_logger(logging.DEBUG),), {})


class _Log:
    """The end of the pipeline: adds the context to an event, makes its line, and writes it.

    Context and form can be changed between two lines.
    """

    def __init__(self) -> None:
        self.context: dict[str, str] = {}
        self.render: Render = for_programs
        self.output = Output(None)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> Any:
        """Write a line."""
        line = self.render({**self.context, **event})
        self.output.write_line(line, lambda lost: self._say_lost(lost, event))
        raise structlog.DropEvent

    def _say_lost(self, lost: int, event: EventDict) -> str:
        said = {"event": "log lines could not be written, and are lost", "level": "warning", "lines": lost}
        return self.render({**self.context, **said, "timestamp": event.get("timestamp", "")})


_log: Final = _Log()


def configure(config: LogConfig, **context: str) -> None:
    """Set up logging for this process; each line of every thread has `context`."""
    _log.context = context
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


def reconfigure(config: LogConfig) -> None:
    """Take another level and form for all lines of this process; for any thread."""
    on_terminal = _log.output.is_terminal
    for_program = config.format is LogFormat.JSON or (config.format is LogFormat.AUTO and not on_terminal)
    by_people = for_people_in_color if on_terminal else for_people
    _log.render = for_programs if for_program else by_people
    # A method below the level does nothing, which costs least.
    for name, method in vars(structlog.make_filtering_bound_logger(_LEVELS[config.level])).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)
