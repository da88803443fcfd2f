import re
import tomllib
from functools import cache

import msgspec
import pytest

from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import Loaded, load
from peruserd.core.configuration.sample import sample as make_sample

sample = cache(make_sample)
TABLES = {field.name: field.type for field in msgspec.structs.fields(Config)}
KEYS = [(table, key.name) for table, struct in TABLES.items() for key in msgspec.structs.fields(struct)]
# A value for each key that has no default.
VALUES = {
    "username": "adm",
    "password_file": "/run/password",
    "ca_file": "/etc/ca.pem",
    "client_cert": "/etc/cert.pem",
    "client_key": "/etc/key.pem",
    "n": 3,
    "placement": "metro:2",
    "directory": "/srv/peruserd",
    "hosts": "a.example.org, b",
    "audit_file": "/var/log/peruserd/audit.log",
}


def _part(table: str) -> list[str]:
    """The lines of a table in the sample, from its header to the next table's."""
    lines = sample().splitlines()
    headers = [index for index, line in enumerate(lines) if line.startswith("[")] + [len(lines)]
    begin = lines.index(f"[{table}]")
    return lines[begin + 1 : headers[headers.index(begin) + 1]]


def test_the_sample_says_the_defaults() -> None:
    """Using the sample as it is changes nothing."""
    assert load(sample(), {}, "sample") == Loaded(Config())


def test_every_default_is_written_out() -> None:
    """Each key that has a default stands in the sample with it, not only in a comment."""
    written = {(table, key) for table, keys in tomllib.loads(sample()).items() for key in keys}
    assert written == {(table, key) for table, key in KEYS if key not in VALUES}


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_key_is_explained(table: str, key: str) -> None:
    """Each key stands once in its table, with a comment of words right above it."""
    lines = _part(table)
    (at,) = [index for index, line in enumerate(lines) if re.match(rf"(# )?{key} =", line)]
    assert re.match(r"# .*\w{3,}", lines[at - 1])
    assert " = " not in lines[at - 1]


@pytest.mark.parametrize("table", list(TABLES))
def test_every_table_is_explained(table: str) -> None:
    """Each table's header has a comment above it."""
    lines = sample().splitlines()
    assert lines[lines.index(f"[{table}]") - 1].startswith("# ")


def test_keys_without_a_default_can_be_uncommented() -> None:
    """Taking the # away and giving a value sets each of the keys that are commented out."""
    text = re.sub(r"(?m)^# (\w+) =$", lambda match: f"{match[1]} = {VALUES[match[1]]!r}", sample())
    config = load(text, {}, "sample").config
    assert {key: getattr(getattr(config, table), key) for table, key in KEYS if key in VALUES} == VALUES


def test_the_sample_fits_a_terminal() -> None:
    """No line is too long to read, and none ends in spaces."""
    assert all(len(line) <= 100 and line == line.rstrip() for line in sample().splitlines())
