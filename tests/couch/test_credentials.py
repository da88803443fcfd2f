from pathlib import Path

import pytest

from peruserd.core.common.secret import Secret
from peruserd.core.configuration.decoding import ConfigError, Loaded, load
from peruserd.core.processes.messages import Credentials
from peruserd.couch.credentials import CredentialSource, resolve_credentials


def _loaded(toml: str) -> Loaded:
    return load(f"[couchdb]\n{toml}", {}, "test.toml")


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    """A password file with more than the password in it."""
    path = tmp_path / "password"
    path.write_text("from file\nsomething else\n")
    return path


@pytest.fixture
def credentials_directory(tmp_path: Path) -> Path:
    """The directory from systemd for a unit with `LoadCredential=`."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "couchdb-password").write_text("from systemd")
    return directory


def _password(loaded: Loaded, environment: dict[str, str]) -> str:
    credentials = resolve_credentials(loaded, environment)
    assert credentials is not None
    return credentials.password.value


def test_nobody_needs_no_password() -> None:
    """Without a user name and a password there are no credentials."""
    assert resolve_credentials(_loaded(""), {"PERUSERD_COUCHDB_PASSWORD": "", "CREDENTIALS_DIRECTORY": ""}) is None


def test_a_password_without_a_user_is_a_mistake(password_file: Path, credentials_directory: Path) -> None:
    """A forgotten `username` is an error at the start, and not a server's 401 for ever."""
    for toml, environment in (
        ("", {"PERUSERD_COUCHDB_PASSWORD": "x"}),
        ("", {"CREDENTIALS_DIRECTORY": str(credentials_directory)}),
        (f"password_file = '{password_file}'", {}),
    ):
        with pytest.raises(ConfigError, match=r"couchdb\.username: it is not given"):
            resolve_credentials(_loaded(toml), environment)


def test_a_credential_that_cannot_be_looked_at_is_a_mistake(tmp_path: Path) -> None:
    """If systemd's directory is closed to the account, the error is one sentence with the path."""
    # A name that is too long for the file system fails even for root, because permissions do not stop root.
    directory = tmp_path / ("x" * 300)
    with pytest.raises(ConfigError, match=r"systemd credential couchdb-password: cannot read .*: File name too long"):
        resolve_credentials(_loaded("username = 'adm'"), {"CREDENTIALS_DIRECTORY": str(directory)})


def test_the_first_source_of_a_password_wins(password_file: Path, credentials_directory: Path) -> None:
    """Environment, then file, then systemd's credential, then the URL."""
    url = 'url = "http://adm:from%20url@host:5984"\n'
    both = _loaded(f"{url}password_file = '{password_file}'")
    systemd = {"CREDENTIALS_DIRECTORY": str(credentials_directory)}
    assert _password(both, {**systemd, "PERUSERD_COUCHDB_PASSWORD": "from env"}) == "from env"
    assert _password(both, systemd) == "from file"
    assert _password(_loaded(url), systemd) == "from systemd"
    assert _password(_loaded(url), {}) == "from url"


def test_an_empty_variable_is_no_password(password_file: Path) -> None:
    """An empty `PERUSERD_COUCHDB_PASSWORD` or `CREDENTIALS_DIRECTORY` does not count; the next source is used."""
    loaded = _loaded(f"username = 'adm'\npassword_file = '{password_file}'")
    assert _password(loaded, {"PERUSERD_COUCHDB_PASSWORD": "", "CREDENTIALS_DIRECTORY": ""}) == "from file"
    with pytest.raises(ConfigError, match="has no password"):
        resolve_credentials(_loaded("username = 'adm'"), {"PERUSERD_COUCHDB_PASSWORD": "", "CREDENTIALS_DIRECTORY": ""})


def test_the_password_of_another_account_is_not_sent() -> None:
    """A user name in the configuration needs its own password, which has priority over the URL's."""
    loaded = _loaded('url = "http://adm:secret@host"\nusername = "other"')
    with pytest.raises(ConfigError, match="another account") as caught:
        resolve_credentials(loaded, {})
    assert "secret" not in str(caught.value)
    own = {"PERUSERD_COUCHDB_PASSWORD": "own"}
    assert resolve_credentials(loaded, own) == Credentials("other", Secret("own"))
    same = _loaded('url = "http://adm:secret@host"\nusername = "adm"')
    assert resolve_credentials(same, {}) == Credentials("adm", Secret("secret"))


def test_a_user_without_a_password_is_a_mistake(tmp_path: Path) -> None:
    """The error names the user and every possible source of a password. An empty systemd directory has none."""
    with pytest.raises(ConfigError, match=r"'adm' has no password.*password_file.*PERUSERD_COUCHDB_PASSWORD"):
        resolve_credentials(_loaded('username = "adm"'), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\nsecond", "is empty"),
        (b"\xef\xbb\xbf\nsecond", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
    ],
    ids=["missing", "empty", "empty-line", "byte-order-mark", "not-utf-8"],
)
def test_a_password_file_that_cannot_be_used_is_a_mistake(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """The error names the key, the file and the problem, and shows nothing of the content."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    loaded = _loaded(f"username = 'adm'\npassword_file = '{path}'")
    with pytest.raises(ConfigError, match=problem) as caught:
        resolve_credentials(loaded, {})
    assert "couchdb.password_file" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "second" not in str(caught.value)


@pytest.mark.parametrize("content", ["secret", "secret\n", "secret\r\n", "secret\nmore\n", "\ufeffsecret\r\n"])
def test_the_first_line_is_the_password(tmp_path: Path, content: str) -> None:
    """The byte order mark, the end of the line and all after it are no part of the password."""
    path = tmp_path / "password"
    path.write_bytes(content.encode())
    assert _password(_loaded(f"username = 'adm'\npassword_file = '{path}'"), {}) == "secret"


def test_spaces_belong_to_a_password(tmp_path: Path) -> None:
    """A password is used unchanged."""
    path = tmp_path / "password"
    path.write_text(" päss word \n")
    assert _password(_loaded(f"username = 'adm'\npassword_file = '{path}'"), {}) == " päss word "


def test_credentials_do_not_show_the_password(password_file: Path) -> None:
    """Logged credentials do not show the password."""
    credentials = resolve_credentials(_loaded(f"username = 'adm'\npassword_file = '{password_file}'"), {})
    assert "from file" not in repr(credentials)


def test_a_name_or_a_password_that_cannot_be_sent_is_a_mistake() -> None:
    """Bytes in the environment that are not UTF-8 are an error at the start, and not at the first login."""
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        resolve_credentials(_loaded("username = 'adm'"), {"PERUSERD_COUCHDB_PASSWORD": "secret\udcff"})
    assert "secret" not in str(caught.value)


def test_a_password_file_that_cannot_be_looked_at_any_more_is_a_mistake(tmp_path: Path) -> None:
    """The credential existed at the start. If it cannot be read now, for any reason, the error is the same."""
    path = tmp_path / "password"
    path.write_text("secret")
    source = CredentialSource(_loaded(f"username = 'adm'\npassword_file = '{path}'"), {})
    path.unlink()
    path.symlink_to("x" * 300)
    with pytest.raises(ConfigError, match="File name too long"):
        source.read()


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_password_is_never_cut(tmp_path: Path, end: str) -> None:
    """A line separator that only Python knows belongs to the password. A character that cannot be sent is a mistake."""
    file = tmp_path / "password"
    file.write_text(f"a{end}b\r\nanother line", encoding="utf-8")
    loaded = load(f'[couchdb]\nusername = "adm"\npassword_file = "{file}"', {}, "test")
    if end == "\u2028":
        assert resolve_credentials(loaded, {}) == Credentials("adm", Secret(f"a{end}b"))
        return
    with pytest.raises(ConfigError, match="control characters"):
        resolve_credentials(loaded, {})


def test_a_carriage_return_at_the_end_of_a_password_is_a_mistake() -> None:
    """A file of variables from Windows has such a character, and CouchDB would lock the account for it."""
    loaded = load('[couchdb]\nusername = "adm"', {}, "test")
    with pytest.raises(ConfigError, match="carriage return"):
        resolve_credentials(loaded, {"PERUSERD_COUCHDB_PASSWORD": "pass\r"})


def test_a_password_in_another_encoding_is_a_mistake() -> None:
    """A URL can have bytes that are not UTF-8, which would become another password."""
    loaded = load('[couchdb]\nurl = "http://adm:p%E9ss@h"', {}, "test")
    with pytest.raises(ConfigError, match="not UTF-8"):
        resolve_credentials(loaded, {})


def test_where_the_password_comes_from_can_be_said(password_file: Path, credentials_directory: Path) -> None:
    """The error names the source that is used, so that an operator looks at the right place."""
    named, file = "username = 'adm'\n", f"username = 'adm'\npassword_file = '{password_file}'"
    given = {"PERUSERD_COUCHDB_PASSWORD": "x", "CREDENTIALS_DIRECTORY": str(credentials_directory)}
    systemd = {"CREDENTIALS_DIRECTORY": str(credentials_directory)}
    assert CredentialSource(_loaded(file), given).origin == "PERUSERD_COUCHDB_PASSWORD in the environment"
    assert CredentialSource(_loaded(file), systemd).origin == f"couchdb.password_file ({password_file})"
    assert CredentialSource(_loaded(named), systemd).origin == "the systemd credential couchdb-password"
    assert CredentialSource(_loaded("url = 'http://adm:x@h:1'"), {}).origin == "couchdb.url"
