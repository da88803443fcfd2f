import os
from pathlib import Path

import msgspec
import pytest

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.decoding import load
from peruserd.couch.session import Session
from peruserd.couch.tls import tls_problems
from peruserd.couch.tokens import NOBODY, Tokens


@pytest.mark.parametrize("key", ["ca_file", "client_cert"])
@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "empty", "not-pem", "zero-byte"])
def test_a_tls_file_that_cannot_be_used_is_named_by_its_key(tmp_path: Path, key: str, kind: str) -> None:
    """The error is one sentence with the key and the path, and a pipe blocks nothing."""
    path = tmp_path / "some.pem"
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "not-pem":
            path.write_text("no certificate")
    given = "/tmp/\0.pem" if kind == "zero-byte" else str(path)  # noqa: S108 - there can be no such file
    couchdb = msgspec.structs.replace(CouchDBConfig(url="https://127.0.0.1"), **{key: given})
    problems = tls_problems(couchdb)
    (problem,) = problems.all
    assert bool(problems.lasting) == (kind in ("directory", "pipe", "zero-byte"))
    assert problem.startswith(f"couchdb.{key}: ")
    assert given in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_tls_file_without_permission_is_named(tmp_path: Path) -> None:
    """The file exists and is not readable."""
    path = tmp_path / "some.pem"
    path.touch(mode=0)
    (problem,) = tls_problems(CouchDBConfig(ca_file=str(path))).passing
    assert "Permission denied" in problem


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    """If the certificate is missing too, both errors are reported together."""
    couchdb = CouchDBConfig(client_cert=str(tmp_path / "cert"), client_key=str(tmp_path / "key"))
    named = [each.partition(":")[0] for each in tls_problems(couchdb).passing]
    assert named == ["couchdb.client_cert", "couchdb.client_key"]


def test_without_tls_files_there_is_nothing_to_find() -> None:
    """The defaults are in order."""
    assert tls_problems(CouchDBConfig()).all == []


@pytest.mark.parametrize("ca_file", [None, "", " ", "/etc/ca.pem"])
def test_a_server_is_verified_whatever_the_ca_file_is(ca_file: str | None) -> None:
    """For `requests` a false value means not to verify. No configuration leads to one."""
    session = Session(CouchDBConfig(url="https://127.0.0.1", ca_file=ca_file), Tokens(NOBODY))
    assert session._verify
    decoded = load(f"[couchdb]\nca_file = '{ca_file or ''}'", {}, "test").config.couchdb
    assert Session(decoded, Tokens(NOBODY))._verify
