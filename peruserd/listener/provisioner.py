"""Serving one user: the only code that touches a user's database.

`core.users.decision` decides each step. The provisioner finds out the facts that the decision asks for, and carries its
steps out. It logs each change of access or existence as an `audit` line. It touches only databases named by the prefix
plus a valid encoding of a user name, because it gets all names from `core.common.names`.
"""

import contextlib
from collections.abc import Callable, Collection
from typing import Final

import msgspec
import structlog

from peruserd.core.common.names import UnservableNameError, database_name, user_name
from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.users import security
from peruserd.core.users.decision import decide
from peruserd.core.users.evidence import DocumentState, Verdict, judge
from peruserd.core.users.facts import Database, Facts, Hint
from peruserd.core.users.quarantine import RESTLESS_DATABASE, Advice, Failure
from peruserd.core.users.security import AS_COUCH_PERUSER, Access
from peruserd.core.users.steps import Ask, Create, Failed, NothingToDo, Removed, Served, Step, Write, WriteEach
from peruserd.couch.client import MAX_NAMES, Client, Creation
from peruserd.couch.copies import Copies
from peruserd.couch.errors import CouchError, InterruptedRequestError, NotFoundError
from peruserd.listener.act import Act, write_down
from peruserd.listener.deletion_notes import DeletionNotes
from peruserd.listener.intents import Intents
from peruserd.listener.missing_database import is_deleted_by_others, note_end
from peruserd.listener.outcome import Outcome
from peruserd.listener.store import StoreError
from peruserd.listener.template_writer import TemplateWriter

log = structlog.get_logger(__name__)

# A review ends as a failure, and is tried later, if the user document changes more often than this meanwhile.
_REVIEW_ROUNDS: Final = 5

# More steps than any act needs, unless somebody deletes the database again and again while it is served.
_MAX_STEPS: Final = 40

_COMES_AND_GOES: Final = Failed(Failure(RESTLESS_DATABASE, "the database comes and goes faster than it is served"))

# The state of a document, by whether it was deleted when it was last acted on.
_STATES: Final[dict[bool | None, DocumentState]] = {False: DocumentState.LIVE, True: DocumentState.DELETED}

_CREATED: Final = {
    Creation.CREATED: Database.CREATED,
    Creation.ACCEPTED: Database.ACCEPTED,
    Creation.EXISTED: Database.THERE,
}


class Provisioner:
    """Acts on users through one client, from any number of threads.

    - `intents` takes a note before a database is made, and before a security object is written.
    - `connected` returns the connected nodes.
    - `deletions` notes databases to be dropped; no database is dropped here.
    """

    def __init__(
        self,
        client: Client,
        copies: Copies,
        *,
        databases: DatabasesConfig,
        deletion: DeletionConfig,
        deletions: DeletionNotes,
        intents: Intents,
        access: Access = AS_COUCH_PERUSER,
        template_writer: TemplateWriter | None = None,
        connected: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._client = client
        self._copies = copies
        self._databases = databases
        self._deletion = deletion
        self._deletions = deletions
        self._intents = intents
        self._access = access
        self._template_writer = template_writer
        self._connected = connected

    def act(self, change: Change) -> Outcome:
        """Look at the user of a change, and take the steps that are due.

        A failure is part of the outcome, even an unforeseen one, so that one user cannot end the process again and
        again. Two errors are raised all the same:

        - StoreError: without a state nothing can be kept in quarantine.
        - InterruptedRequestError: the listener is stopping, and that is no user's failure.
        """
        outcome = Outcome()
        name = user_name(change.document_id)
        if name is None:
            return outcome
        try:
            database = database_name(self._databases.prefix, name)
        except UnservableNameError as error:
            # No database was ever made for such a name, so nothing remains to be done when its user is deleted.
            if not change.deleted:
                outcome.failure = Failure("unservable_name", str(error), Advice.GIVE_UP)
            return outcome
        act = Act(change, name, database, outcome)
        try:
            self._look(act)
        except security.MalformedSecurityError as error:
            outcome.failure = Failure("malformed_security", f"{database}: {error}", Advice.ASK_OPERATOR)
        except (StoreError, InterruptedRequestError):
            raise
        except security.CopiesDisagreeError as error:
            outcome.failure = Failure("copies_disagree", f"{database}: {error}", Advice.ASK_OPERATOR)
        except CouchError as error:
            outcome.failure = Failure(error.kind, str(error), error.advice)
        except Exception as error:
            log.exception("unforeseen failure", document=change.document_id)
            outcome.failure = Failure("unforeseen", repr(error), Advice.ASK_OPERATOR)
        if act.intended and not act.wrote:
            self._intents.withdraw(change.document_id)
        write_down(act)
        return outcome

    def find_missing(self, document_ids: Collection[str], *, remade: bool = False) -> set[str]:
        """Return which of these user documents have no database; raises CouchError.

        - With `remade`, the result includes users whose database was made again or moved since it was first made.
        - Users whose name allows no database are left out.
        - Where the server cannot be asked about many databases at once, the result is empty, because a scan looks at
          each user later. With `remade` it is everybody, because no scan follows.
        """
        databases: dict[str, str] = {}
        for document_id in document_ids:
            with contextlib.suppress(UnservableNameError):
                databases[database_name(self._databases.prefix, user_name(document_id) or "")] = document_id
        missing: set[str] = set()
        names = list(databases)
        for start in range(0, len(names), MAX_NAMES):
            found = self._client.missing_databases(names[start : start + MAX_NAMES], remade=remade)
            if found is None:
                return set(databases.values()) if remade else set()
            missing |= found
        return {databases[database] for database in missing}

    def confirm(self, document_id: str) -> Verdict:
        """Ask the copies of a user document whether it exists; raises CouchError."""
        return judge(self._copies.evidence(document_id))

    def _look(self, act: Act) -> None:
        change = act.change
        if change.lane is Lane.REVIEW:
            self._review(act)
            return
        facts = self._first_facts(act, self._hint(change))
        if change.in_place and facts.hint is Hint.LIVE:
            # An earlier owner may have left the copies apart, and a clustered read shows one of them.
            facts = self._compare(act, facts) if change.each_copy or facts.holds else self._glance(act, facts)
        self._carry_out(act, facts)

    def _review(self, act: Act) -> None:
        """Compare the latest action with the user document, and act again until the two agree.

        The document is read again after each action, because its present owner may act at the same time. So the last of
        the two to act has seen the newest document. A database is never dropped here.
        """
        facts = self._first_facts(act, Hint.CONTESTED)
        done = None if facts.in_doubt or act.change.contested else act.change.deleted
        for _ in range(_REVIEW_ROUNDS):
            verdict = self._confirm(act)
            if verdict.state is _STATES.get(done):
                return
            _, end = self._carry_out(act, facts.confirmed(verdict))
            if isinstance(end, Failed | NothingToDo):
                return
            done = verdict.state is DocumentState.DELETED
        act.outcome.failure = Failure("restless", "the user document changes faster than it can be reviewed")

    def _carry_out(self, act: Act, facts: Facts) -> tuple[Facts, Step]:
        """Take one step after the other until the act ends; return the facts and the last step."""
        for _ in range(_MAX_STEPS):
            step = decide(facts)
            match step:
                case Ask.DOCUMENT:
                    facts = facts.confirmed(self._confirm(act))
                case Ask.GLANCE:
                    facts = self._glance(act, facts)
                case Ask.COPIES:
                    facts = self._compare(act, facts)
                case Ask.ADMISSION:
                    admitted = self._deletions.admits(act.change.document_id, act.database)
                    facts = msgspec.structs.replace(facts, admitted=admitted)
                case _ if self._template_writer is not None and self._template_writer.takes(step):
                    facts = self._template_writer.carry_out(step, act.database, facts)
                case Ask.REMOVAL:
                    missed = is_deleted_by_others(self._client, self._deletions, act.database)
                    facts = msgspec.structs.replace(facts, deleted_by_others=missed)
                case Create():
                    facts = self._create(act, facts)
                case Write() | WriteEach():
                    facts = self._write(act, facts, step)
                case _:
                    break
        else:
            step = _COMES_AND_GOES
        self._end(act, facts, step)
        self._note_deletion(act, facts)
        return facts, step

    def _note_deletion(self, act: Act, facts: Facts) -> None:
        """Note the deletion in the journal, even if some copies may still name the user."""
        is_there = facts.database is not Database.ABSENT and facts.copies is not None
        rev = facts.document.rev if facts.document is not None and facts.state is DocumentState.DELETED else None
        if self._deletion.uses_journal and is_there and rev is not None:
            self._deletions.note(act.change.document_id, act.database, rev, act.change.sequence)

    def _end(self, act: Act, facts: Facts, step: Step) -> None:
        outcome = act.outcome
        match step:
            case Served():
                outcome.provisioned = True
                outcome.acted_on = False
                self._deletions.served(act.change.document_id)
            case Removed(absent):
                if absent and facts.notes_ends:
                    note_end(self._client, self._deletions, act.database)
                # A second look completes the write that an earlier one left in doubt.
                outcome.revoked = not absent and (act.wrote or facts.in_doubt)
                outcome.acted_on = None if absent else True
            case Failed(failure):
                outcome.failure = msgspec.structs.replace(failure, message=f"{act.database}: {failure.message}")
        outcome.templates_written |= facts.template_writes > 0
        outcome.whole = outcome.failure is None and (act.wrote or facts.in_doubt)

    def _hint(self, change: Change) -> Hint:
        # If the journal knows of the user's deletion, a row alone must not give access back.
        if change.contested or (not change.deleted and self._deletions.knows(change.document_id)):
            return Hint.CONTESTED
        return Hint.DELETED if change.deleted else Hint.LIVE

    def _first_facts(self, act: Act, hint: Hint) -> Facts:
        facts = Facts(
            act.name,
            hint,
            policy=self._deletion.policy,
            on_return=self._deletion.on_return,
            when_deleted=WhenDeleted.REMAKE if _is_operators(act.change) else self._databases.when_deleted,
            # A scan meets each user who was ever deleted.
            notes_ends=self._databases.when_deleted is WhenDeleted.REPORT and act.change.lane is not Lane.SCAN,
            in_doubt=self._intents.in_doubt(act.change.document_id),
            access=self._access,
            rollout=act.change.lane is Lane.ROLLOUT,
            connected=self._connected(),
        )
        return facts if self._template_writer is None else self._template_writer.first_facts(facts)

    def _confirm(self, act: Act) -> Verdict:
        act.verdict = self.confirm(act.change.document_id)
        # The wait comes after the reading. So a drop that begins later has read the document later than this.
        self._deletions.let_drop_end(act.change.document_id)
        return act.verdict

    def _glance(self, act: Act, facts: Facts) -> Facts:
        try:
            found = self._client.security(act.database)
        except NotFoundError:
            return msgspec.structs.replace(facts, database=Database.ABSENT)
        return msgspec.structs.replace(facts, database=Database.THERE, glance=found)

    def _compare(self, act: Act, facts: Facts) -> Facts:
        copies = self._copies.security(act.database)
        if copies is None:
            return msgspec.structs.replace(facts, database=Database.ABSENT, copies=None)
        return msgspec.structs.replace(facts, database=Database.THERE, copies=copies)

    def _create(self, act: Act, facts: Facts) -> Facts:
        if not act.intended:
            self._intents.before_create(act.change.document_id)
            act.intended = True
        found = _CREATED[self._client.create_database(act.database, self._databases)]
        act.outcome.created |= found is not Database.THERE
        # Somebody can delete the new database too, so the earlier answer is dropped.
        return msgspec.structs.replace(
            facts, database=found, glance=None, copies=None, written=0, deleted_by_others=None
        )

    def _write(self, act: Act, facts: Facts, step: Write | WriteEach) -> Facts:
        self._intents.before_write(act.change.document_id, is_noted=act.intended)
        act.wrote = True
        if isinstance(step, Write):
            self._client.put_security(act.database, step.security)
            act.outcome.security_written = True
            if facts.without_file:
                self._fill(act, facts.without_file)
        else:
            self._copies.write_each(((facts.copies or ())[place], wanted) for place, wanted in step.securities)
        facts = msgspec.structs.replace(facts, written=facts.written + 1)
        # A database that was made a moment ago is not read back. If somebody else wrote to it meanwhile, the audit
        # finds that.
        return facts if facts.database in (Database.CREATED, Database.ACCEPTED) else self._compare(act, facts)

    def _fill(self, act: Act, nodes: Collection[str]) -> None:
        """Bring the documents into copies that the write has made again. Otherwise the next write would do it."""
        log.warning("copies of a database had no file; they were made again", database=act.database, nodes=nodes)
        try:
            self._copies.fill(act.database)
        except InterruptedRequestError:
            raise
        except CouchError as error:
            log.warning(
                "copies that were made again have their documents once somebody writes to the database",
                database=act.database,
                error=str(error),
            )


def _is_operators(change: Change) -> bool:
    """Say whether the operator asked for this look. For a document of another owner it is a contested review."""
    return change.is_of_operator or (change.lane is Lane.REVIEW and change.contested)
