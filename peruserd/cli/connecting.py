"""What commands share that ask a server: a connection by the configuration, and exit codes for what can go wrong."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from peruserd import logs
from peruserd.cli.loading import complain, load_file
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_LATER
from peruserd.core.config import Config, LogConfig, LogLevel
from peruserd.core.decoding import ConfigError
from peruserd.core.messages import Credentials
from peruserd.core.quarantine import Advice
from peruserd.couch.client import Client
from peruserd.couch.credentials import resolve_credentials
from peruserd.couch.errors import CouchError
from peruserd.couch.session import Session


class Connected(msgspec.Struct, frozen=True):
    """A configuration that is valid, and a client for its server."""

    config: Config
    credentials: Credentials | None
    client: Client


def with_server(options: argparse.Namespace, command: Callable[[Connected], int]) -> int:
    """Run a command that talks to the server; return its exit code, or the one for what prevented it.

    78 where the configuration must change first (refused credentials included), 75 where the server does not answer.
    """
    try:
        with _connect(options.config) as connected:
            return command(connected)
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    except CouchError as error:
        print(f"peruserd: {error}", file=sys.stderr)
        if error.advice is Advice.ASK_OPERATOR:
            print("peruserd: check [couchdb] in the configuration: url, username, password", file=sys.stderr)
            return EXIT_CONFIGURATION
        return EXIT_LATER


@contextmanager
def _connect(path: str | None) -> Iterator[Connected]:
    # What a command has to say it prints; only what goes wrong underneath is worth a log line.
    logs.configure(LogConfig(level=LogLevel.WARNING))
    loaded = load_file(path)
    credentials = resolve_credentials(loaded, os.environ)
    session = Session(loaded.config.couchdb, credentials)
    try:
        yield Connected(loaded.config, credentials, Client(session))
    finally:
        session.close()
