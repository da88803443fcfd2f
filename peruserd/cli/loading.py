"""Parts shared by all commands: reading the configuration, and the files that it names."""

import os
from pathlib import Path

from peruserd.core.configuration.decoding import PASSWORD_VARIABLE, ConfigError, Loaded, load
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.tls import tls_problems


def load_file(path: str | None) -> Loaded:
    """Return the configuration of a file (or the defaults), overridden by the environment. Raises ConfigError."""
    if path is None:
        return load("", os.environ, "defaults")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8: {error}"]) from error
    return load(text, os.environ, path)


def credentials_for(loaded: Loaded) -> CredentialSource:
    """Return the source of the account for the server; raises ConfigError where a file for the connection is unusable.

    The password is removed from the environment, so that no child process inherits it.
    """
    problems = tls_problems(loaded.config.couchdb)
    try:
        source = CredentialSource(loaded, os.environ)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    os.environ.pop(PASSWORD_VARIABLE, None)
    return source
