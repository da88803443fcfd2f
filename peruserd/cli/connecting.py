"""Parts shared by the commands that ask a server: a connection by the configuration, and exit codes for failures."""

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property

import msgspec

from peruserd import logs
from peruserd.cli.config_file import load_file
from peruserd.cli.loading import credentials_for
from peruserd.cli.output import CommandError
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_LATER, EXIT_NOT_DONE
from peruserd.core.configuration.choices import LogFormat, LogLevel
from peruserd.core.configuration.config import Config
from peruserd.core.processes.messages import Credentials
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.templates import Templates
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, ForbiddenError, RefusedError, UnauthorizedError
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
        """The templates, read once; raises ConfigError. A command that does not use them runs without their files."""
        return load_templates(self.config)


def with_server(
    options: argparse.Namespace,
    command: Callable[[Connected], int],
    *,
    connections: int = 1,
    finishes: bool = False,
) -> int:
    """Run a command that talks to the server; return its exit code, or raise CommandError where it failed.

    The exit code of an error is:

    - 78 where the configuration must change first
    - 75 where the server does not answer or refuses the account. That can change on the server, and a lock ends by
      itself.

    `connections` is the number of connections that may be open at once. Ctrl-C ends the requests under way, unless the
    command `finishes` its work first.
    """
    try:
        with _connect(options.config, connections, finishes=finishes) as connected:
            return command(connected)
    except CouchError as error:
        raise as_command_error(error) from error


def as_command_error(error: CouchError) -> CommandError:
    """Return the command's error for an error of the server, with advice on what to check."""
    match error:
        case RefusedError():
            return CommandError(EXIT_LATER, error.kind, str(error))
        case ForbiddenError():
            words = "CouchDB words this answer otherwise, so a proxy in front of it blocks the page"
            return CommandError(EXIT_LATER, error.kind, str(error), words)
        case UnauthorizedError():
            words = "check the account in [couchdb]: username and password; it must be a server admin's"
            return CommandError(EXIT_LATER, error.kind, str(error), words)
        case CouchError() if error.advice is Advice.ASK_OPERATOR:
            return CommandError(EXIT_CONFIGURATION, error.kind, str(error), "check [couchdb] in the configuration")
        case _:
            return CommandError(EXIT_LATER, error.kind, str(error))


def need_users(client: Client, auth_db: str) -> None:
    """Raise CommandError where there is no authentication database of this name."""
    if not client.database_exists(auth_db):
        words = f"the authentication database {auth_db} does not exist; check couchdb.auth_db"
        raise CommandError(EXIT_NOT_DONE, "no_authentication_database", words)


@contextmanager
def _connect(path: str | None, connections: int, *, finishes: bool) -> Iterator[Connected]:
    loaded = load_file(path)
    # A command prints its own lines. Only trouble in lower layers is logged, in a form for people.
    logged = msgspec.structs.replace(
        loaded.config.log, format=LogFormat.CONSOLE, level=LogLevel.WARNING, audit_file=None
    )
    logs.configure(logged, loaded.config.databases.prefix)
    source = credentials_for(loaded)
    # Command and daemon share this record, so that they do not use up CouchDB's allowed attempts for each other.
    record = RefusalFile(StateDirectory.configured(loaded.config).path)
    authenticator = Authenticator(loaded.config.couchdb, source, record, asks_again=False)
    session = Session(loaded.config.couchdb, authenticator.tokens, connections=connections)
    authenticator.start()
    try:
        with nullcontext() if finishes else _interruptible(session):
            yield Connected(loaded.config, source.credentials, Client(session))
    finally:
        authenticator.stop()
        session.close()


@contextmanager
def _interruptible(session: Session) -> Iterator[None]:
    """Let Ctrl-C end the requests of all threads, because the command waits for its threads."""

    def on_interrupt(_number: int, _frame: object) -> None:
        # Another thread interrupts, because this one may hold a lock of the session.
        threading.Thread(target=session.interrupt, name="interrupt", daemon=True).start()
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        # Only the main thread gets signals. A background job of a script ignores this signal from its start.
        yield
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
