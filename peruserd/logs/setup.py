"""The setup of the log of a process, and the change of its settings while the process runs."""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

import structlog

from peruserd import threads
from peruserd.core.common.pseudonyms import HIDDEN, Pseudonyms, hashed
from peruserd.core.configuration.choices import LogFormat, LogLevel, LogUsers
from peruserd.core.configuration.config import LogConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.logs import strangers
from peruserd.logs.audit_file import AuditFile
from peruserd.logs.output import Output
from peruserd.logs.pipeline import CANNOT_WRITE_AUDIT, Pipeline
from peruserd.logs.rendering import for_people, for_people_in_color, for_programs

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

_pipeline: Final = Pipeline()

log = structlog.get_logger(__name__)


def configure(config: LogConfig, prefix: str, **context: str) -> None:
    """Set up logging for this process; each line of every thread has `context`.

    `prefix` is that of users' databases, whose names are names of users as well.
    """
    _pipeline.begin(prefix, context, Output(sys.stderr))
    _take_over(config)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _pipeline,
        ],
        wrapper_class=_Logger,
        cache_logger_on_first_use=True,
    )
    strangers.take_over()


def without_names(text: str) -> str:
    """Return a text for another place that is kept like a log, with users named as in the log."""
    if (pseudonyms := _pipeline.pseudonyms) is None:
        return text
    return str(pseudonyms.in_place_of_names({"text": text})["text"])


def reconfigure(config: LogConfig) -> None:
    """Take other settings for all lines of this process, and open the audit's file anew; for any thread.

    If the file cannot be opened, the log says so, and has the audit lines until it can.
    """
    _take_over(config)
    try:
        open_audit_file()
    except ConfigError as error:
        log.warning(CANNOT_WRITE_AUDIT, file=config.audit_file, error=str(error))


def check_audit_file(config: LogConfig) -> None:
    """Raise ConfigError if the audit's file of another configuration cannot be opened."""
    if config.audit_file is not None:
        file = AuditFile(config.audit_file)
        file.open()
        file.close()


def open_audit_file() -> None:
    """Open the audit's file, if there is one, or open it anew after somebody has renamed it; for any thread.

    Raises ConfigError. Then each audit line tries again, and is in the log meanwhile.
    """
    if (file := _pipeline.audit_file) is not None:
        with threads.WAITING:
            file.open()


def say_rest() -> None:
    """Write how often lines were held back until now, because the process ends."""
    _pipeline.say_rest()


def _take_over(config: LogConfig) -> None:
    on_terminal = _pipeline.output.is_terminal
    by_people = for_people_in_color if on_terminal else for_people
    _pipeline.for_program = config.format is LogFormat.JSON or (config.format is LogFormat.AUTO and not on_terminal)
    _pipeline.render = for_programs if _pipeline.for_program else by_people
    pseudonym = _PSEUDONYMS[config.users]
    _pipeline.pseudonyms = None if pseudonym is None else Pseudonyms(_pipeline.prefix, pseudonym)
    _pipeline.left_out = frozenset(each.value for each, level in _LEVELS.items() if level < _LEVELS[config.level])
    _pipeline.write_audit_to(config.audit_file)
    # Audit lines are of this level, and their own file has them whatever the level of the log is.
    least = _LEVELS[config.level] if config.audit_file is None else min(_LEVELS[config.level], logging.INFO)
    # A method below the level does nothing, which costs least.
    for name, method in vars(structlog.make_filtering_bound_logger(least)).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)


# A process that was forked can have none of the threads that it seems to have.
os.register_at_fork(after_in_child=_pipeline.after_fork)

# Processes of listeners end in another way, and say it themselves.
atexit.register(say_rest)
