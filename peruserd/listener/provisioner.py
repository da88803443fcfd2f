"""Serving one user: ensure, revoke, drop, review. The only code that touches a user's database.

It never touches a database that is not the prefix plus a valid encoding of a user name, because the names it works on
come out of `core.names` alone. The order of the requests is the design's "Rules of provisioning".
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Final

import msgspec
import structlog

from peruserd.core import security
from peruserd.core.config import DatabasesConfig, DeletionPolicy
from peruserd.core.names import UnservableNameError, database_name, user_name
from peruserd.core.quarantine import Advice, Failure
from peruserd.core.workqueue import Change, Lane
from peruserd.couch.client import MOST_NAMES, Client, Creation, DocumentState
from peruserd.couch.errors import CouchError, NoMajorityError, NotFoundError
from peruserd.listener.defaults import DefaultSecurity
from peruserd.listener.store import StoreError

log = structlog.get_logger(__name__)

# A user document that changes more often than this while it is reviewed is left for another time.
_REVIEW_ROUNDS: Final = 5

# More copies than any cluster keeps of one document: the read then waits for every copy that can be reached.
_ALL_COPIES: Final = 10


class Outcome(msgspec.Struct):
    """What one action did, and whether it came to its end.

    `acted_on` says whether the document that was acted on is deleted, which can be another one than the change hinted
    at; None where nothing was acted on.
    """

    provisioned: bool = False
    revoked: bool = False
    created: bool = False
    dropped: bool = False
    security_written: bool = False
    absent: bool = False  # there is no database, so nothing of it can be in doubt
    failure: Failure | None = None
    acted_on: bool | None = None


class Provisioner:
    """Acts on users through one client, from any number of threads.

    `before_write` is called with the document id before a security object is written; `in_doubt` says whether one of
    that document was begun and not seen to end, and must be written whatever a read shows.
    """

    def __init__(
        self,
        client: Client,
        *,
        auth_db: str,
        databases: DatabasesConfig,
        deletion: DeletionPolicy,
        before_write: Callable[[str], None],
        in_doubt: Callable[[str], bool],
    ) -> None:
        self._client = client
        self._auth_db = auth_db
        self._databases = databases
        self._deletion = deletion
        self._before_write = before_write
        self._in_doubt = in_doubt
        self._default_security = DefaultSecurity(client.security)

    def act(self, change: Change) -> Outcome:
        """Do what a change of a user document asks for.

        A failure is part of the outcome, also one that nobody foresaw: it is that user's, and must not end the process
        again and again. Only StoreError is raised, because without a state nothing can be kept in quarantine.
        """
        outcome = Outcome()
        name = user_name(change.document_id)
        if name is None:
            return outcome
        try:
            database = database_name(self._databases.prefix, name)
            if change.lane is Lane.REVIEW:
                self._review(change, name, database, outcome)
            elif change.deleted:
                self._remove(change, name, database, outcome)
            else:
                self._ensure(change.document_id, name, database, outcome, in_place=change.in_place)
        except UnservableNameError as error:
            # Nothing was ever made for such a name, so its deletion leaves nothing to do.
            if not change.deleted:
                outcome.failure = Failure("unservable_name", str(error), Advice.GIVE_UP)
        except security.MalformedSecurityError as error:
            outcome.failure = Failure("malformed_security", f"{database}: {error}", Advice.ASK_OPERATOR)
        except CouchError as error:
            outcome.failure = Failure(error.kind, str(error), error.advice)
        except StoreError:
            raise
        except Exception as error:
            log.exception("unforeseen failure", document=change.document_id)
            outcome.failure = Failure("unforeseen", repr(error), Advice.ASK_OPERATOR)
        return outcome

    def find_missing(self, document_ids: Collection[str]) -> set[str]:
        """Return which of these user documents have no database; raises CouchError.

        None of them, where the server cannot be asked about many at once. Names that cannot have one are left out.
        """
        databases: dict[str, str] = {}
        for document_id in document_ids:
            with contextlib.suppress(UnservableNameError):
                databases[database_name(self._databases.prefix, user_name(document_id) or "")] = document_id
        missing: set[str] = set()
        for group in _groups(databases, MOST_NAMES):
            found = self._client.missing_databases(group)
            if found is None:
                return set()
            missing |= found
        return {databases[database] for database in missing}

    def _ensure(self, document_id: str, name: str, database: str, outcome: Outcome, *, in_place: bool = False) -> None:
        outcome.acted_on = False
        creation = Creation.EXISTED
        found = self._security_if_there(database) if in_place else None
        if found is None:
            creation = self._client.create_database(database, self._databases)
            made_now = creation is Creation.CREATED
            found = self._default_security.of(database) if made_now else self._client.security(database)
        outcome.created |= creation is not Creation.EXISTED
        self._write(document_id, database, found, security.grant(found, name), outcome)
        if creation is Creation.ACCEPTED:
            outcome.failure = Failure("accepted_only", f"{database}: only a minority of the nodes has created it")
        else:
            outcome.provisioned = True

    def _review(self, change: Change, name: str, database: str, outcome: Outcome) -> None:
        """Compare what was done with the user document as it is, and do it over until the two agree.

        The document is read again after each action, because whoever owns it now may act at the same time: whichever of
        the two acts last has then acted on the newest. A database is never dropped here.
        """
        done = None if self._in_doubt(change.document_id) else change.deleted
        for _ in range(_REVIEW_ROUNDS):
            state = self._client.document_state(self._auth_db, change.document_id, quorum=_ALL_COPIES)
            if state is DocumentState.MISSING:
                # The authentication database was made again: whose the database is now, nobody can tell.
                self._bring_together(change.document_id, database, outcome)
                return
            deleted = state is DocumentState.DELETED
            if deleted == done:
                return
            if not deleted:
                self._ensure(change.document_id, name, database, outcome)
            elif self._deletion is DeletionPolicy.KEEP:
                self._bring_together(change.document_id, database, outcome)
            else:
                self._revoke(change.document_id, name, database, outcome)
            if outcome.failure is not None:
                return
            done = deleted
        outcome.failure = Failure("restless", "the user document changes faster than it can be reviewed")

    def _bring_together(self, document_id: str, database: str, outcome: Outcome) -> None:
        """Write a security object as it is over copies that may disagree, if it is in doubt."""
        if not self._in_doubt(document_id):
            return
        try:
            found = self._client.security(database)
            self._write(document_id, database, found, security.close(found), outcome)
        except NotFoundError:
            outcome.absent = True

    def _remove(self, change: Change, name: str, database: str, outcome: Outcome) -> None:
        if self._deletion is DeletionPolicy.KEEP:
            return
        # A tombstone met in a scan can be years old, and its database somebody else's by now: it is never dropped.
        if self._deletion is DeletionPolicy.DROP and not change.met_in_scan:
            self._drop(change.document_id, database, outcome)
        else:
            self._revoke(change.document_id, name, database, outcome)

    def _revoke(self, document_id: str, name: str, database: str, outcome: Outcome) -> None:
        try:
            found = self._client.security(database)
            self._write(document_id, database, found, security.revoke(found, name), outcome)
        except NotFoundError:
            outcome.absent = True
            return
        outcome.acted_on = True
        outcome.revoked = outcome.security_written

    def _drop(self, document_id: str, database: str, outcome: Outcome) -> None:
        # A node cut off from the others answers a read with a quorum from the copy it has, so it must not decide.
        if not self._client.membership().has_majority:
            raise NoMajorityError(f"{database}: not dropped while most nodes of the cluster cannot be reached")
        state = self._client.document_state(self._auth_db, document_id, quorum=_ALL_COPIES)
        if state is not DocumentState.DELETED:
            return
        outcome.acted_on = True
        if self._client.delete_database(database):
            outcome.dropped = True
        else:
            outcome.failure = Failure("accepted_only", f"{database}: only a minority of the nodes has deleted it")

    def _security_if_there(self, database: str) -> security.Security | None:
        try:
            return self._client.security(database)
        except NotFoundError:
            return None

    def _write(
        self,
        document_id: str,
        database: str,
        found: security.Security,
        wanted: security.Security,
        outcome: Outcome,
    ) -> None:
        if wanted is found and not self._in_doubt(document_id):
            return
        self._before_write(document_id)
        self._client.put_security(database, wanted)
        outcome.security_written = True


def _groups(items: Collection[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
