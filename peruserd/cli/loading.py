"""Parts shared by all commands: reading the configuration, and the files that it names."""

import errno
import os
from pathlib import Path
from typing import Final

from peruserd.core.configuration.decoding import PASSWORD_VARIABLE, ConfigError, Loaded, load
from peruserd.core.configuration.problems import TemporaryError
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.tls import tls_problems
from peruserd.couch.urls import url_problem

# With these errors the configuration may be in order, and only the machine is not.
_PASSING: Final = frozenset(
    {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
)


def load_file(path: str | None) -> Loaded:
    """Return the configuration of a file (or the defaults), overridden by the environment.

    Raises ConfigError, and TemporaryError if the file cannot be read now.
    """
    if path is None:
        return load("", os.environ, "defaults")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        kind = TemporaryError if error.errno in _PASSING else ConfigError
        raise kind([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8: {error}"]) from error
    return load(text, os.environ, path)


def credentials_for(loaded: Loaded) -> CredentialSource:
    """Return the source of the account for the server, once everything for the connection was checked.

    Raises ConfigError if no request can be made, and TemporaryError if a file cannot be used now. The password is
    removed from the environment, so that no child process inherits it.
    """
    problems = tls_problems(loaded.config.couchdb)
    if (words := url_problem(loaded.config.couchdb.url)) is not None:
        problems.add(f"couchdb.url: {words}", lasts=True)
    try:
        source = CredentialSource(loaded, os.environ)
    except ConfigError as error:
        problems.add_from(error)
    problems.raise_any()
    os.environ.pop(PASSWORD_VARIABLE, None)
    return source
