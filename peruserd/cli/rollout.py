"""Comparing the databases of all users with the configured templates and rights, and updating them.

The command does this itself, with the same code by which daemons serve users. So one command reaches the users of all
nodes, knows how each act ended, and stops where something goes wrong. Nothing is remembered between two commands: each
reads every database again and skips those that are right.

Daemons go on serving beside it. A document is written over the revision that was read, so the second writer gets a
conflict and reads again. A security object has no revision. So the user document is looked at once more after each
write of a security object, as daemons do after a handover.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected
from peruserd.core.cluster.views import Feed
from peruserd.core.common.names import UnservableNameError, database_name, user_document_id, user_name
from peruserd.core.feed.changes import make_look, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.rows import is_short
from peruserd.core.users import security
from peruserd.core.users.contents import Contents, TemplateStatus
from peruserd.core.users.security import MalformedSecurityError
from peruserd.couch.copies import Copies, open_layout
from peruserd.couch.errors import (
    CouchError,
    InterruptedRequestError,
    NotFoundError,
    RefusedError,
    UnauthorizedError,
    UnreachableError,
)
from peruserd.couch.sources import DatabaseSource
from peruserd.listener.provisioner import Provisioner
from peruserd.listener.template_writer import open_template_writer

GROUP: Final = 20
"""The number of users that are looked at together. After each group the command decides whether to go on."""

THREADS: Final = 8

# These errors are not about one user, so the command ends with them.
_OF_THE_SERVER: Final = (InterruptedRequestError, RefusedError, UnauthorizedError, UnreachableError)


class Seen(msgspec.Struct, frozen=True):
    """One user's database as read. `contents` is None without a database; `why` says why it could not be read."""

    user: str
    database: str
    contents: Contents | None = None
    rights_due: bool = False
    why: str = ""

    def is_due(self, *, overwrite: bool) -> bool:
        """Say whether anything must be written."""
        return self.rights_due or (self.contents is not None and self.contents.is_due(overwrite=overwrite))


class Rolled(msgspec.Struct, frozen=True):
    """The end of the rollout to one user. A user who is neither done nor failed is left to the daemons."""

    is_done: bool
    why: str = ""


class _NoIntents:
    """A substitute for the notes of a listener: a rollout makes no database, and a second one repeats the first."""

    def before_create(self, document_id: str) -> None:
        """Take no note."""

    def before_write(self, document_id: str, *, is_noted: bool) -> None:
        """Take no note."""

    def withdraw(self, document_id: str) -> None:
        """Leave it so."""

    def in_doubt(self, document_id: str) -> bool:  # noqa: ARG002 - an interface
        """Return False, because a rollout looks at every copy in any case."""
        return False


class _NoDeletionNotes:
    """A substitute for the journal of deletions, which only an owner of users may write."""

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Leave this to the owner of the user."""

    def admits(self, document_id: str, database: str) -> bool:  # noqa: ARG002 - an interface
        """Let no user in who waits for the operator."""
        return False

    def knows(self, document_id: str) -> bool:  # noqa: ARG002 - an interface
        """Return False, because a rollout confirms the document in any case."""
        return False

    def let_drop_end(self, document_id: str) -> None:
        """Wait for nothing: nothing is dropped here."""

    def knows_end(self, database: str, life: str) -> bool:  # noqa: ARG002 - an interface
        """Return False, because a rollout makes no database again."""
        return False

    def note_end(self, database: str, life: str) -> None:
        """Leave this to the owner of the user."""

    def served(self, document_id: str) -> None:
        """Leave this to the owner of the user."""


class Rollout:
    """Looks at users and rolls out, from several threads. Errors that are not about one user are raised."""

    def __init__(self, connected: Connected, feed: Feed, *, overwrite: bool = False) -> None:
        config, client = connected.config, connected.client
        self._client = client
        self._prefix = config.databases.prefix
        self._auth_db = config.couchdb.auth_db
        self._access = connected.templates.access(config.security.grant)
        layout = open_layout(client, feed, "_local", self._auth_db)
        self._copies = Copies(client, layout)
        self._template_writer = open_template_writer(
            client, layout, config.cluster.database, connected.templates, overwrite=overwrite
        )
        self._provisioner = Provisioner(
            client,
            self._copies,
            databases=config.databases,
            deletion=config.deletion,
            deletions=_NoDeletionNotes(),
            intents=_NoIntents(),
            access=self._access,
            template_writer=self._template_writer,
        )

    def users(self) -> Iterator[str]:
        """Give the names of all users who can have a database, in the order in which they were changed last.

        An enemy could abuse the order of ids. CouchDB shows an id that is not valid UTF-8 as another id. A reader that
        continued from such an id could read the same page for ever.
        """
        source = DatabaseSource(self._client, self._auth_db)
        since: int | str = 0
        while True:
            page = source.page(since)
            for row in page.results:
                if not row.deleted and is_short(row) and (name := user_name(row.id)) is not None:
                    yield name
            if page.is_last:
                return
            since = page.last_seq

    def look(self, user: str) -> Seen | None:
        """Read a user's database; None where the name cannot have one."""
        try:
            database = database_name(self._prefix, user)
        except UnservableNameError:
            return None
        try:
            contents = self._template_writer.contents(user, database)
            copies = self._copies.security(database)
            if copies is None:
                return Seen(user, database)
            # An interrupted rollout can have reached only some of the copies, and a clustered read shows one.
            found = [each.security for each in copies if each.security is not None]
            why = "" if found else "no copy of its security object can be read"
            right = sum(security.grants(each, user, self._access) for each in found)
            return Seen(user, database, contents, right < len(found), why)
        except NotFoundError as error:
            return Seen(user, database, why="" if error.is_of_database else str(error))
        except _OF_THE_SERVER:
            raise
        except (CouchError, MalformedSecurityError) as error:
            return Seen(user, database, why=str(error))

    def roll_out(self, user: str) -> Rolled:
        """Update a user's database to the configured templates and rights."""
        document_id = user_document_id(user)
        outcome = self._provisioner.act(make_look(document_id, Lane.ROLLOUT, time.monotonic()))
        failure = outcome.failure
        if outcome.security_written:
            # Somebody may have deleted the user between the look at the document and the write.
            review = make_review(document_id, deleted=False, now=time.monotonic())
            failure = self._provisioner.act(review).failure or failure
        why = "" if failure is None else f"{failure.kind}: {failure.message}"
        return Rolled(is_done=failure is None and outcome.provisioned, why=why)


def in_groups(
    users: Iterable[str], pool: ThreadPoolExecutor, look: Callable[[str], Seen | None]
) -> Iterator[list[Seen]]:
    """Yield the results of looking at users, in small groups; the pool's threads look."""
    group: list[str] = []
    for user in users:
        group.append(user)
        if len(group) == GROUP:
            yield _seen(group, pool, look)
            group = []
    if group:
        yield _seen(group, pool, look)


def finish(rollouts: Iterable[tuple[Seen, Future[Rolled]]], take: Callable[[Seen, Rolled], None]) -> None:
    """Wait for all rollouts and pass on each result; after an interruption wait only for those that have begun."""
    interruption: KeyboardInterrupt | None = None
    left = deque(rollouts)
    while left:
        seen, future = left[0]
        try:
            if interruption is None or not future.cancel():
                take(seen, future.result())
        except KeyboardInterrupt as error:
            interruption = error
        else:
            left.popleft()
    if interruption is not None:
        raise interruption


def _seen(group: list[str], pool: ThreadPoolExecutor, look: Callable[[str], Seen | None]) -> list[Seen]:
    return [seen for seen in pool.map(look, group) if seen is not None]


class Counts(msgspec.Struct):
    """Counts of the users seen so far. `documents` counts standings by the id of the document."""

    users: int = 0
    without_database: int = 0
    up_to_date: int = 0
    due: int = 0
    rights_due: int = 0
    options_due: int = 0
    unreadable: int = 0
    documents: dict[str, dict[str, int]] = {}

    def add(self, seen: Seen, *, overwrite: bool) -> None:
        """Count one user."""
        self.users += 1
        if seen.why:
            self.unreadable += 1
            return
        if seen.contents is None:
            self.without_database += 1
            return
        is_due = seen.is_due(overwrite=overwrite)
        self.due += is_due
        self.up_to_date += not is_due
        self.rights_due += seen.rights_due
        self.options_due += bool(seen.contents.options)
        for each in seen.contents.documents:
            counts = self.documents.setdefault(each.id, dict.fromkeys(map(str, TemplateStatus), 0))
            counts[each.status] += 1


class Pace:
    """Limits the users a second, by the caller's monotonic clock; without a rate there is no limit."""

    def __init__(self, rate: float | None, now: float) -> None:
        self._rate = rate
        self._began = now
        self._passed = 0

    def wait_seconds(self, users: int, now: float) -> float:
        """Count these users; return the seconds to wait before the next ones."""
        self._passed += users
        return 0.0 if self._rate is None else max(0.0, self._began + self._passed / self._rate - now)
