"""Commands that ask a server share this: a connection by the configuration, and exit codes for all that fails."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import msgspec

from peruserd import logs
from peruserd.cli.loading import complain, credentials_for, load_file
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_LATER
from peruserd.core.config import Config, LogConfig, LogLevel
from peruserd.core.decoding import ConfigError
from peruserd.core.messages import Credentials
from peruserd.core.quarantine import Advice
from peruserd.core.templates import Templates
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, RefusedError, UnauthorizedError
from peruserd.couch.refusals import RefusalFile
from peruserd.couch.session import Session
from peruserd.daemon.state import StateDirectory
from peruserd.daemon.templates import load_templates


class Connected(msgspec.Struct, frozen=True, dict=True):
    """A configuration that is valid, and a client for its server."""

    config: Config
    credentials: Credentials | None
    client: Client

    @cached_property
    def templates(self) -> Templates:
        """The templates, read once; raises ConfigError. A command that does without them can run without the files."""
        return load_templates(self.config)


def with_server(options: argparse.Namespace, command: Callable[[Connected], int], *, connections: int = 1) -> int:
    """Run a command that talks to the server; return its exit code, or the one for what prevented it.

    78 where the configuration must change first, 75 where the server does not answer, or refuses the account: what is
    wrong with that can change on the server, and a lock ends by itself. `connections` is how many may be open at once.
    """
    try:
        with _connect(options.config, connections) as connected:
            return command(connected)
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    except CouchError as error:
        print(f"peruserd: {error}", file=sys.stderr)
        if isinstance(error, RefusedError | UnauthorizedError):
            print("peruserd: check the account in [couchdb]: username and password", file=sys.stderr)
            return EXIT_LATER
        if error.advice is Advice.ASK_OPERATOR:
            print("peruserd: check [couchdb] in the configuration", file=sys.stderr)
            return EXIT_CONFIGURATION
        return EXIT_LATER


@contextmanager
def _connect(path: str | None, connections: int) -> Iterator[Connected]:
    # A command prints its own words; only trouble underneath is worth a log line.
    logs.configure(LogConfig(level=LogLevel.WARNING))
    loaded = load_file(path)
    source = credentials_for(loaded)
    # The daemon's own record: a command must not use up what CouchDB allows, nor the other way round.
    record = RefusalFile(StateDirectory.configured(loaded.config).path)
    authenticator = Authenticator(loaded.config.couchdb, source, record)
    session = Session(loaded.config.couchdb, authenticator.tokens, connections=connections)
    authenticator.start()
    try:
        yield Connected(loaded.config, source.credentials, Client(session))
    finally:
        authenticator.stop()
        session.close()
