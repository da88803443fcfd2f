"""Checks the files for TLS before anything is sent: a file that cannot be used ends the start.

A program that renews certificates can bring or replace such a file at any time. So most of these problems can pass.

While the daemon runs, each connection reads these files again. If one is missing then, the request fails.
"""

import ssl
import stat
from collections.abc import Callable
from pathlib import Path

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.problems import Problems, lasts


def tls_problems(couchdb: CouchDBConfig) -> Problems:
    """Return a sentence for each TLS file that cannot be used; it begins with the configuration key."""
    problems = Problems()
    cert, key = couchdb.client_cert, couchdb.client_key
    for name, path in (("ca_file", couchdb.ca_file), ("client_cert", cert), ("client_key", key)):
        if path is not None:
            _read(f"couchdb.{name}: cannot read {path}", path, problems)
    if problems.all:
        return problems
    if (ca_file := couchdb.ca_file) is not None:
        _load("ca_file", ca_file, problems, lambda context: context.load_verify_locations(ca_file))
    if cert is not None:
        # The empty password keeps an encrypted key from asking for its pass phrase on the terminal.
        _load("client_cert", cert, problems, lambda context: context.load_cert_chain(cert, key, password=""))
    return problems


def _read(words: str, path: str, problems: Problems) -> None:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            # To read a pipe could block the start for ever.
            problems.add(f"{words}: it is not a file", lasts=True)
            return
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        problems.add(f"{words}: {error.strerror or error}", lasts=lasts(error))
    except ValueError as error:
        # The path has a zero byte in it.
        problems.add(f"{words}: {error}", lasts=True)


def _load(name: str, path: str, problems: Problems, load: Callable[[ssl.SSLContext], None]) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError) as error:
        problems.add(f"couchdb.{name}: {path} cannot be used: {error}", lasts=False)
