"""Problems of a configuration, told apart by what cures them.

A problem *lasts* if a person must change the configuration. The daemon then ends with exit code 78, and is not started
again. Any other problem can pass while the configuration stays as it is. A file can appear, a disk can get room again,
and another program can end. The exit code is 75 then, and a service manager tries again. In doubt a problem can pass,
because a daemon that is given up for good serves nobody.
"""

import errno
from typing import Final

from peruserd.core.configuration.decoding import ConfigError

EXIT_CONFIGURATION: Final = 78
"""The exit code of a problem that lasts (sysexits' EX_CONFIG)."""

EXIT_LATER: Final = 75
"""The exit code of a problem that can pass (sysexits' EX_TEMPFAIL)."""

# With these errors the path itself is wrong. All other errors are about the state of the machine.
_LASTING: Final = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})


class TemporaryError(ConfigError):
    """The configuration cannot be used now, and may be usable later without a change. `problems` are sentences."""


class Problems:
    """The problems that were found so far, as sentences that begin with the key of the configuration."""

    def __init__(self) -> None:
        self.lasting: list[str] = []
        self.passing: list[str] = []

    @property
    def all(self) -> list[str]:
        """Return all problems, the lasting ones first."""
        return [*self.lasting, *self.passing]

    def add(self, problem: str, *, lasts: bool) -> None:
        """Note a problem."""
        (self.lasting if lasts else self.passing).append(problem)

    def add_from(self, error: ConfigError) -> None:
        """Note the problems of an error."""
        (self.passing if isinstance(error, TemporaryError) else self.lasting).extend(error.problems)

    def raise_any(self) -> None:
        """Raise TemporaryError if all problems can pass, ConfigError if one lasts, and nothing if there are none."""
        if self.lasting:
            raise ConfigError(self.all)
        if self.passing:
            raise TemporaryError(self.passing)


def exit_code_of(error: ConfigError) -> int:
    """Return the exit code of a command that cannot use the configuration."""
    return EXIT_LATER if isinstance(error, TemporaryError) else EXIT_CONFIGURATION


def lasts(error: OSError) -> bool:
    """Say whether an error with a path of the configuration lasts until a person changes the path."""
    return error.errno in _LASTING


def error_of(problem: str, cause: OSError) -> ConfigError:
    """Return the error to raise for a path of the configuration that cannot be used."""
    return ConfigError([problem]) if lasts(cause) else TemporaryError([problem])
