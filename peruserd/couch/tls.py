"""Checks the files for TLS before anything is sent: a file that cannot be used ends the start.

While the daemon runs, each connection reads these files again. If one is missing then, the request fails.
"""

import ssl
import stat
from collections.abc import Callable
from pathlib import Path

from peruserd.core.configuration.config import CouchDBConfig


def tls_problems(couchdb: CouchDBConfig) -> list[str]:
    """Return a sentence for each TLS file that cannot be used; it begins with the configuration key."""
    problems = []
    cert, key = couchdb.client_cert, couchdb.client_key
    for name, path in (("ca_file", couchdb.ca_file), ("client_cert", cert), ("client_key", key)):
        if path is not None and (problem := _unreadable(path)) is not None:
            problems.append(f"couchdb.{name}: cannot read {path}: {problem}")
    if problems:
        return problems
    if (ca_file := couchdb.ca_file) is not None:
        problems += _tried("ca_file", ca_file, lambda context: context.load_verify_locations(ca_file))
    if cert is not None:
        # The empty password keeps an encrypted key from asking for its pass phrase on the terminal.
        problems += _tried("client_cert", cert, lambda context: context.load_cert_chain(cert, key, password=""))
    return problems


def _unreadable(path: str) -> str | None:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            # To read a pipe could block the start for ever.
            return "it is not a file"
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        # The path has a zero byte in it.
        return str(error)
    return None


def _tried(name: str, path: str, load: Callable[[ssl.SSLContext], None]) -> list[str]:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError) as error:
        return [f"couchdb.{name}: {path} cannot be used: {error}"]
    return []
