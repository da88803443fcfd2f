"""Reading the configuration and the files that it names, for programs that ask the server."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from peruserd.cli.config_file import load_file
from peruserd.core.configuration.decoding import PASSWORD_VARIABLE, ConfigError, Loaded
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.tls import tls_problems
from peruserd.couch.urls import url_problem


class ConfigurationFile:
    """The configuration of a daemon, which reads it at its start and at each reload.

    The environment is that of the start. A password in it is removed from the process's own environment at once, so
    that no child process inherits it.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._environment = dict(os.environ)
        self._source: CredentialSource | None = None

    def read(self) -> tuple[Loaded, CredentialSource]:
        """Return the configuration, and the source of the account for the server.

        Raises ConfigError, as `load_file` and `credentials_for` do.
        """
        if self._source is not None and self._path is not None and not _is_file(self._path):
            # A pipe gives its content only once, and a second reading would wait for ever.
            raise ConfigError([f"{self._path}: no regular file, so it cannot be read again"])
        loaded = load_file(self._path, self._environment)
        self._source = credentials_for(loaded, self._environment, self._source)
        return loaded, self._source


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        # Reading it will say what is wrong.
        return True


def credentials_for(
    loaded: Loaded, environment: Mapping[str, str] = os.environ, before: CredentialSource | None = None
) -> CredentialSource:
    """Return the source of the account for the server, once everything for the connection was checked.

    Raises ConfigError if no request can be made, and TemporaryError if a file cannot be used now. The password is
    removed from the environment, so that no child process inherits it. `before` is the source until a reload.
    """
    problems = tls_problems(loaded.config.couchdb)
    if (words := url_problem(loaded.config.couchdb.url)) is not None:
        problems.add(f"couchdb.url: {words}", lasts=True)
    try:
        source = CredentialSource(loaded, environment, before)
    except ConfigError as error:
        problems.add_from(error)
    problems.raise_any()
    os.environ.pop(PASSWORD_VARIABLE, None)
    return source
