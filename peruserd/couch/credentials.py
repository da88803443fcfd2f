"""Who to be for CouchDB: where the password comes from. It is read once and kept in memory only."""

from collections.abc import Mapping
from pathlib import Path

from peruserd.core.config import CouchDBConfig
from peruserd.core.decoding import PASSWORD_CREDENTIAL, PASSWORD_VARIABLE, ConfigError, Loaded
from peruserd.core.messages import Credentials, Secret


def resolve_credentials(loaded: Loaded, environment: Mapping[str, str]) -> Credentials | None:
    """Return who to be for CouchDB, or None where nothing names a user.

    The password is the first of: the environment's, that of `password_file`, the systemd credential's, the URL's.
    Raises ConfigError where a user has no password, or where its file cannot be read.
    """
    couchdb = loaded.config.couchdb
    username = couchdb.username or loaded.username
    if username is None:
        return None
    password = _configured_password(couchdb, environment) or loaded.password
    if password is None:
        problem = (
            f"couchdb.username: {username!r} has no password; give couchdb.password_file, {PASSWORD_VARIABLE} in the "
            f"environment, or the systemd credential {PASSWORD_CREDENTIAL}"
        )
        raise ConfigError([problem])
    return Credentials(username, password)


def _configured_password(couchdb: CouchDBConfig, environment: Mapping[str, str]) -> Secret | None:
    if PASSWORD_VARIABLE in environment:
        return Secret(environment[PASSWORD_VARIABLE])
    if couchdb.password_file is not None:
        return _first_line(Path(couchdb.password_file), "couchdb.password_file")
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory is not None and (path := Path(directory, PASSWORD_CREDENTIAL)).exists():
        return _first_line(path, f"the systemd credential {PASSWORD_CREDENTIAL}")
    return None


def _first_line(path: Path, where: str) -> Secret:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{where}: cannot read {path}: {reason}"]) from error
    if not lines or not lines[0]:
        raise ConfigError([f"{where}: the first line of {path} is empty; it must be the password"])
    return Secret(lines[0])
