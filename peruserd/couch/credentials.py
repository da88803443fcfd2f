"""The account of this instance at CouchDB, and the source of its password. The password is kept only in memory.

After a refusal the password is read again, because somebody may have changed it. A file that cannot be used now can be
brought or replaced later, so that is a TemporaryError.
"""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from peruserd import threads
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.decoding import PASSWORD_CREDENTIAL, PASSWORD_VARIABLE, ConfigError, Loaded, is_plain
from peruserd.core.configuration.problems import TemporaryError, error_of
from peruserd.core.processes.messages import Credentials


class Source(Protocol):
    """The source of the credentials."""

    @property
    def credentials(self) -> Credentials | None:
        """The credentials that were read last."""

    @property
    def is_file(self) -> bool:
        """Say whether the password comes from a file, and so can change."""

    @property
    def is_credential(self) -> bool:
        """Say whether systemd has handed the password over, which it does at a start only."""

    @property
    def origin(self) -> str:
        """Name the origin of the password."""

    def read(self) -> Credentials | None:
        """Read the credentials again; raises ConfigError."""


class CredentialSource:
    """The source of the credentials while the process runs. The constructor reads them; raises ConfigError.

    The environment and the URL never change. The password file and the systemd credential can change.

    `before` is the source until a reload. A pipe can be read only once, so its credentials are taken from there.
    """

    def __init__(
        self, loaded: Loaded, environment: Mapping[str, str], before: "CredentialSource | None" = None
    ) -> None:
        self.loaded = loaded
        # The password is soon removed from the process's environment, so that no child inherits it.
        self._fixed = Secret(environment.get(PASSWORD_VARIABLE) or "")
        self._directory = environment.get("CREDENTIALS_DIRECTORY") or ""
        file = loaded.config.couchdb.password_file
        if before is None or file is None or self._fixed.value or _can_be_read_again(Path(file)):
            self.credentials = resolve_credentials(loaded, environment)
        elif loaded.config.couchdb == before.loaded.config.couchdb:
            self.credentials = before.credentials
        else:
            raise ConfigError([f"couchdb.password_file: {file} is no regular file, and can be read at a start only"])

    @property
    def is_file(self) -> bool:
        """Say whether the password can change while the process runs."""
        couchdb = self.loaded.config.couchdb
        if self._fixed.value:
            return False
        return couchdb.password_file is not None or bool(self._directory)

    @property
    def origin(self) -> str:
        """Name the origin of the password."""
        file = self.loaded.config.couchdb.password_file
        if self._fixed.value:
            return f"{PASSWORD_VARIABLE} in the environment"
        if file is not None:
            return f"couchdb.password_file ({file})"
        is_credential = self._directory and _can_be_there(Path(self._directory, PASSWORD_CREDENTIAL))
        return f"the systemd credential {PASSWORD_CREDENTIAL}" if is_credential else "couchdb.url"

    @property
    def is_credential(self) -> bool:
        """Say whether systemd has handed the password over, which it does at a start only."""
        return self.is_file and self.loaded.config.couchdb.password_file is None

    def read(self) -> Credentials | None:
        """Read the credentials again, however long the disk takes; raises ConfigError if that is not possible now."""
        file = self.loaded.config.couchdb.password_file
        with threads.WAITING:
            if file is None or _can_be_read_again(Path(file)):
                environment = {PASSWORD_VARIABLE: self._fixed.value, "CREDENTIALS_DIRECTORY": self._directory}
                self.credentials = resolve_credentials(self.loaded, environment)
        # A pipe can be read only once; a second read would wait for ever.
        return self.credentials


def resolve_credentials(loaded: Loaded, environment: Mapping[str, str]) -> Credentials | None:
    """Return the account to use at CouchDB; None if no user is configured.

    The password comes from the first of these that is there: the environment, `password_file`, the systemd credential,
    the URL. Raises ConfigError if a user has no password, if a password has no user, or if its file cannot be read.
    """
    couchdb = loaded.config.couchdb
    username = couchdb.username or loaded.username
    password = _configured_password(couchdb, environment)
    from_file = password is not None and not environment.get(PASSWORD_VARIABLE)
    if password is None and loaded.password is not None:
        if username != loaded.username:
            problem = (
                f"couchdb.username: found {username!r}, and the password in couchdb.url is that of another account"
            )
            raise ConfigError([problem])
        password = loaded.password
    if username is None and password is None:
        return None
    if username is None:
        raise ConfigError(["couchdb.username: it is not given, and a password is; name the server admin it belongs to"])
    if password is None:
        problem = (
            f"couchdb.username: {username!r} has no password; give couchdb.password_file, {PASSWORD_VARIABLE} in the "
            f"environment, or the systemd credential {PASSWORD_CREDENTIAL}"
        )
        # Systemd hands credentials over at each start, so the next one may bring it.
        raise (TemporaryError if environment.get("CREDENTIALS_DIRECTORY") else ConfigError)([problem])
    for each, kind in ((username, ConfigError), (password.value, TemporaryError if from_file else ConfigError)):
        if not _is_unicode(each):
            raise kind(["couchdb.username: the name or the password has bytes that are not UTF-8"])
        if not is_plain(each):
            # RFC 7617, 2, forbids control characters in both.
            problem = "couchdb.username: the name or the password has control characters, such as a carriage return"
            raise kind([problem])
    return Credentials(username, password)


def _configured_password(couchdb: CouchDBConfig, environment: Mapping[str, str]) -> Secret | None:
    # An empty variable counts as not given, because CouchDB takes no empty password.
    if environment.get(PASSWORD_VARIABLE):
        return Secret(environment[PASSWORD_VARIABLE])
    if couchdb.password_file is not None:
        return _first_line(Path(couchdb.password_file), "couchdb.password_file")
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and _can_be_there(path := Path(directory, PASSWORD_CREDENTIAL)):
        return _first_line(path, f"the systemd credential {PASSWORD_CREDENTIAL}")
    return None


def _is_unicode(text: str) -> bool:
    """Say whether a text can be sent. Python turns bytes of the environment that are not UTF-8 into surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Since Python 3.14 `Path.exists` and `Path.is_file` return False also if the path cannot be read.


def _can_be_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # Reading it will say what is wrong, such as a directory that is closed to this account.
        return True
    return True


def _can_be_read_again(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        # Reading it will say what is wrong.
        return True


def _first_line(path: Path, where: str) -> Secret:
    try:
        # A password may contain characters such as U+2028, at which Python's `splitlines` would end the line.
        line = path.read_text(encoding="utf-8-sig").partition("\n")[0]
    except OSError as error:
        raise error_of(f"{where}: cannot read {path}: {error.strerror}", error) from error
    except UnicodeDecodeError as error:
        raise TemporaryError([f"{where}: cannot read {path}: it is not UTF-8"]) from error
    if not line:
        raise TemporaryError([f"{where}: the first line of {path} is empty; it must be the password"])
    return Secret(line)
