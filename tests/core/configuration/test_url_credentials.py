"""Credentials in the URL of the configuration: taken out of it, and never shown."""

import traceback
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError, load

FILE = "/etc/peruserd.toml"
PASSWORD = "hunter2"
TEXTS = st.text(min_size=1, max_size=12)


@given(username=TEXTS, password=TEXTS)
def test_credentials_are_taken_out_of_the_url(username: str, password: str) -> None:
    """Any name and password, percent-encoded, come out as they are, and the URL is bare afterwards."""
    url = f"http://{quote(username, safe='')}:{quote(password, safe='')}@db.example:5984"
    loaded = load(f'[couchdb]\nurl = "{url}"', {}, FILE)
    assert (loaded.username, loaded.password) == (username, Secret(password))
    assert loaded.config.couchdb.url == "http://db.example:5984"


@pytest.mark.parametrize(
    ("url", "bare", "username", "password"),
    [
        ("http://adm:pass@h:5984/", "http://h:5984", "adm", "pass"),
        ("https://adm:p@ss@h", "https://h", "adm", "p@ss"),
        ("http://adm:pa:ss@h", "http://h", "adm", "pa:ss"),
        ("http://adm@h", "http://h", "adm", None),
        ("http://adm:@h", "http://h", "adm", None),
        ("http://adm:pass@[::1]:5984", "http://[::1]:5984", "adm", "pass"),
        ("https://adm:pass@proxy/couchdb/", "https://proxy/couchdb", "adm", "pass"),
        ("http://h:5984", "http://h:5984", None, None),
    ],
)
@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_url_is_bare_once_it_is_loaded(
    url: str, bare: str, username: str | None, password: str | None, where: str
) -> None:
    """A URL of the file or the environment has no credentials afterwards, nor a last slash."""
    text, environment = (f'[couchdb]\nurl = "{url}"', {}) if where == "file" else ("", {"PERUSERD_COUCHDB_URL": url})
    loaded = load(text, environment, FILE)
    assert loaded.config == msgspec.structs.replace(
        Config(), couchdb=msgspec.structs.replace(Config().couchdb, url=bare)
    )
    assert (loaded.username, loaded.password) == (username, Secret(password) if password else None)


# A / # ? [ in a password that was not percent-encoded is the mistake people make.
PASSWORDS = [
    PASSWORD,
    *(template.format(PASSWORD) for template in ("{}/x", "12/{}", "{}#x", "{}?x", "{}[x", "{} x", "{}@x")),
]
URLS = [
    "http://adm:{}@host:5984",
    "http://adm:{}@",
    "http://adm:{}@:5984",
    "http://adm:{}@host:port",
    "http://adm:{}@host:99999",
    "http://adm:{}@host:0",
    "http://adm:{}@host:5984?x=1",
    "http://adm:{}@host:5984#x",
    "http://adm:{}@[::1",
    "http://adm:{}@[host]",
    "http://adm:{}@ho\u2100st",
    "ftp://adm:{}@host",
    "adm:{}@host:5984",
    "//adm:{}@host:5984",
    "adm:{}@",
]
FILES = [
    pytest.param('[couchdb]\nurl = "{}"', id="url"),
    pytest.param('[couchdb]\nurl = ["{}"]', id="url-in-a-list"),
    pytest.param('[couchdb]\nurl = {{ node = "{}" }}', id="url-in-a-table"),
    pytest.param('[couchdb]\nurl = "{}', id="syntax-error"),
    pytest.param(f'[couchdb]\nurl = "http://adm:{PASSWORD}"', id="no-host"),
    pytest.param('[couchdb]\nulr = "{}"', id="unknown-key"),
    pytest.param('[couchbd]\nurl = "{}"', id="unknown-table"),
    pytest.param('[couchdb]\nurl = "{}"\n[log]\nlevel = "x"', id="mistake-elsewhere"),
]


def _shown(text: str, environment: dict[str, str]) -> str:
    """All that could be written of loading a configuration: the traceback of its error, or what was loaded."""
    try:
        return repr(load(text, environment, FILE))
    except ConfigError as error:
        return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("url", URLS)
def test_a_password_in_a_wrong_url_is_in_no_error(url: str, password: str) -> None:
    """However a URL with a password is mistaken, what is said about it does not show the password."""
    wrong = url.format(password)
    assert PASSWORD not in _shown(f"[couchdb]\nurl = '{wrong}'", {})
    assert PASSWORD not in _shown("", {"PERUSERD_COUCHDB_URL": wrong})


@pytest.mark.parametrize("template", FILES)
def test_a_password_in_a_wrong_file_is_in_no_error(template: str) -> None:
    """Wherever a URL with a password stands in a mistaken file, what is said about it does not show the password."""
    assert PASSWORD not in _shown(template.format(f"http://adm:{PASSWORD}@host:5984"), {})
