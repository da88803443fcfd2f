"""The decision about one user, from the facts that are known: pure, and the only place where it is made.

A row of a feed, a retry or a scan is a *reason to look*, and never the truth. The decision takes the facts that are
known and returns one step. A step is a question (find out another fact), an act, or the end. The provisioner carries a
step out, puts the new fact into its place and asks again. So each rule stands here once, for every reason to look.

The rules, in short:

- A new database gets a constant. Nothing else is written for a name whose `PUT` was answered 201 for a live row.
- Access is given back, and taken away, only after the user document was confirmed copy by copy.
- A security object that was there before is written over only after its copies were compared.
- A live row is believed where the one copy that was read names its user, or where all copies were read, if they agree.
- An object that was written is read again from each copy; if a copy differs, the work begins again from what is there.
- A revocation ends when each copy was seen to be without the user. A copy that cannot be read is waited for.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from peruserd.core import security
from peruserd.core.config import DeletionPolicy, OnReturn
from peruserd.core.evidence import DocumentState, Verdict
from peruserd.core.quarantine import UNCONFIRMED, Advice, Failure
from peruserd.core.security import CopiesDisagreeError, Security


class Hint(Enum):
    """The claim that the reason to look makes about the user document."""

    LIVE = "live"
    DELETED = "deleted"
    CONTESTED = "contested"  # rows that contradict each other, or nothing at all


class Database(Enum):
    """The user's database, as far as it is known."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    CREATED = "created"  # by this act, as a majority of the nodes knows
    ACCEPTED = "accepted"  # by this act, as a minority knows; the others catch up later
    THERE = "there"  # it was there before


class CopyReading(msgspec.Struct, frozen=True):
    """The security object of one copy of a database; `security` is None where the copy could not be read.

    `path` is where the copy is read and written; it means nothing here.
    """

    node: str
    security: Security | None
    path: str = ""


class Facts(msgspec.Struct, frozen=True):
    """All that is known of a user during one act.

    `glance` is the security object as a clustered read shows it, which is that of one copy. `copies` are all copies, as
    read since the last write. `in_doubt` says that a security object was begun to be written and not seen to be whole,
    by an earlier act or an earlier process. `written` is how often this act has written already. `admitted` says
    whether the operator lets a user in whose database was nobody's; None where nobody was asked.
    """

    user: str
    hint: Hint
    policy: DeletionPolicy = DeletionPolicy.REVOKE
    in_doubt: bool = False
    database: Database = Database.UNKNOWN
    document: Verdict | None = None
    glance: Security | None = None
    copies: tuple[CopyReading, ...] | None = None
    written: int = 0
    on_return: OnReturn = OnReturn.REOPEN
    admitted: bool | None = None

    def confirmed(self, document: Verdict) -> "Facts":
        """Return the facts with the document as it was confirmed to be.

        Copies that were read before it are to be read again. Somebody may have been writing them at that moment, and a
        write that follows from them would undo it.
        """
        return msgspec.structs.replace(self, document=document, copies=None)

    @property
    def state(self) -> DocumentState | None:
        """Return what the document was confirmed to be; None where it was not asked."""
        return None if self.document is None else self.document.state

    @property
    def readable(self) -> tuple[Security, ...]:
        """Return the security objects of the copies that could be read."""
        return tuple(each.security for each in self.copies or () if each.security is not None)

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the copies could be read."""
        return 2 * len(self.readable) > len(self.copies or ())

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the nodes whose copy could not be read, sorted."""
        return tuple(sorted({each.node for each in self.copies or () if each.security is None}))


class Ask(Enum):
    """A fact to find out next."""

    DOCUMENT = "document"  # the user document, copy by copy
    GLANCE = "glance"  # the security object, by one clustered read
    COPIES = "copies"  # the security object, copy by copy
    ADMISSION = "admission"  # whether the operator lets the user in who came back


class Create(msgspec.Struct, frozen=True):
    """Create the database, or learn that it is there."""


class Write(msgspec.Struct, frozen=True):
    """Write the security object to all copies at once."""

    security: Security


class WriteEach(msgspec.Struct, frozen=True):
    """Write to each of these copies by itself, by its place among the copies."""

    securities: tuple[tuple[int, Security], ...]


class Served(msgspec.Struct, frozen=True):
    """The user is live, and the database is there and right."""


class Removed(msgspec.Struct, frozen=True):
    """The user is deleted, and no copy of the database names it. `absent` says that there is no database at all."""

    absent: bool = False


class NothingToDo(msgspec.Struct, frozen=True):
    """Nothing follows from the reason to look. `why` says so in words."""

    why: str


class Failed(msgspec.Struct, frozen=True):
    """The act cannot come to its end now."""

    failure: Failure


Step = Ask | Create | Write | WriteEach | Served | Removed | NothingToDo | Failed

Edit = Callable[[Security, str], Security]
"""A change of a security object for a user; it returns the very same object where nothing changes."""

# Another writer who undoes each write is not fought for ever within one act.
_MAX_WRITES: Final = 5


def decide(facts: Facts) -> Step:
    """Return the next step; raises MalformedSecurityError where an object cannot be read at all."""
    match facts.state:
        case None if facts.hint is Hint.LIVE:
            return _claimed_live(facts)
        case None if facts.hint is Hint.DELETED:
            return _claimed_deleted(facts)
        case None:
            return Ask.DOCUMENT
        case DocumentState.LIVE:
            return _live(facts)
        case DocumentState.DELETED:
            return _deleted(facts)
        case DocumentState.MISSING:
            return _missing(facts)
        case _:
            return _unclear(facts)


def _claimed_live(facts: Facts) -> Step:
    """Serve a new user on the word of its row; confirm the document wherever something was there before."""
    if facts.database is Database.THERE:
        if facts.glance is None and facts.copies is None:
            return Ask.GLANCE
        seen = facts.readable if facts.glance is None else (facts.glance,)
        is_right = _agree(seen) and security.grants(seen[0], facts.user) and not facts.in_doubt
        return Served() if is_right else Ask.DOCUMENT
    return _live(facts)


def _claimed_deleted(facts: Facts) -> Step:
    """Look for something to take away before asking whether it may be taken."""
    if facts.policy is DeletionPolicy.KEEP and not facts.in_doubt:
        return _KEPT
    if facts.database is Database.ABSENT:
        return Removed(absent=True)
    if facts.copies is None:
        return Ask.COPIES
    is_clean = not facts.silent and all(security.revoke(each, facts.user) is each for each in facts.readable)
    if is_clean and not facts.in_doubt and facts.policy is not DeletionPolicy.DROP:
        return Removed()
    return Ask.DOCUMENT


def _live(facts: Facts) -> Step:
    if facts.database is Database.UNKNOWN and facts.hint is not Hint.LIVE:
        # A look that is not for a new row finds the database there as a rule.
        return Ask.COPIES
    if facts.database in (Database.UNKNOWN, Database.ABSENT):
        return Create()
    if facts.database in (Database.CREATED, Database.ACCEPTED):
        return _new(facts)
    if facts.copies is None:
        return Ask.COPIES
    return _kept_shut(facts) or _brought_to(facts, security.grant, Served())


def _kept_shut(facts: Facts) -> Step | None:
    """Ask the operator before a user gets a database that was there and is nobody's, if the configuration says so."""
    if facts.on_return is OnReturn.REOPEN or facts.admitted or facts.written:
        return None
    if not security.is_freed(facts.readable, facts.user):
        return None
    return Ask.ADMISSION if facts.admitted is None else _HELD


def _deleted(facts: Facts) -> Step:
    if facts.database is Database.ABSENT:
        return Removed(absent=True)
    if facts.policy is DeletionPolicy.KEEP:
        return _whole(facts) if facts.in_doubt else _KEPT
    if facts.copies is None:
        return Ask.COPIES
    if not facts.has_majority:
        return _revoked_each(facts, _away(facts))
    try:
        return _brought_to(facts, security.revoke, Removed())
    except CopiesDisagreeError as error:
        # Nobody can say which copy is right, and the user must be in none of them.
        failure = Failure("copies_disagree", str(error), Advice.ASK_OPERATOR, facts.silent)
        return _revoked_each(facts, Failed(failure))


def _missing(facts: Facts) -> Step:
    """Leave a user alone whose document was never there: the row was another document's, or `_users` is a new one."""
    if facts.in_doubt and facts.database is not Database.ABSENT:
        return _whole(facts)
    return NothingToDo("there is no such user document")


def _unclear(facts: Facts) -> Step:
    verdict = facts.document or Verdict(DocumentState.UNCLEAR)
    message = f"whether the user document is there cannot be confirmed: {verdict.why}"
    return Failed(Failure(UNCONFIRMED, message, waits_for=verdict.silent))


def _new(facts: Facts) -> Step:
    if not facts.written:
        return Write(security.first(facts.user))
    if facts.database is Database.ACCEPTED:
        return Failed(Failure("accepted_only", "only a minority of the nodes has created the database"))
    return Served()


def _whole(facts: Facts) -> Step:
    """Write a security object as it is over copies that may disagree, because an earlier write was not seen to end."""
    if facts.copies is None:
        return Ask.COPIES
    return _brought_to(facts, _closed, NothingToDo("the security object is whole again"))


def _brought_to(facts: Facts, edit: Edit, end: Step) -> Step:
    """Bring all copies to what they stand for together, changed by `edit`.

    Nothing is written on the word of a minority: a write reaches all copies that are there by then, and those that did
    not answer can hold what these have lost. Raises CopiesDisagreeError where they stand for nothing together.
    """
    found = facts.readable
    if not found:
        return _away(facts)
    is_right = _agree(found) and edit(found[0], facts.user) is found[0]
    if is_right and (facts.written or not facts.in_doubt or facts.has_majority):
        return _ended(facts, end)
    if not facts.has_majority:
        return _away(facts)
    if facts.written >= _MAX_WRITES:
        return _RESTLESS
    return Write(edit(security.reconcile(found, len(facts.copies or ())), facts.user))


def _agree(found: tuple[Security, ...]) -> bool:
    """Say whether there is an object, and all of them are the same."""
    return bool(found) and all(each == found[0] for each in found)


def _revoked_each(facts: Facts, end: Failed) -> Step:
    """Take the user out of each copy that can be read, by itself, and end so where none of them names the user."""
    copies = enumerate(facts.copies or ())
    before = [(place, each.security) for place, each in copies if each.security is not None]
    after = [(place, security.revoke(each, facts.user)) for place, each in before]
    changed = tuple(new for new, (_, old) in zip(after, before, strict=True) if new[1] is not old)
    if not changed:
        return end
    return _RESTLESS if facts.written >= _MAX_WRITES else WriteEach(changed)


def _ended(facts: Facts, end: Step) -> Step:
    """End, except that a revocation waits for each copy and looks twice where an earlier write had failed.

    CouchDB's own repair lets a majority win when a node returns (`mem3_sync_security`). It can set a copy back that was
    revoked while the others were away, so one look at copies that agree is not enough then.
    """
    if not isinstance(end, Removed):
        return end
    if facts.silent:
        return _away(facts)
    if facts.written and facts.in_doubt:
        return Failed(Failure("to_be_seen_again", "the copies agree now, and are looked at once more"))
    return end


def _away(facts: Facts) -> Failed:
    message = f"copies of the database cannot be read on {', '.join(facts.silent)}; they are waited for"
    return Failed(Failure("copies_away", message, waits_for=facts.silent))


def _closed(found: Security, _user: str) -> Security:
    return security.close(found)


_HELD = Failed(
    Failure(
        "held",
        "the database was there before and names the user on no copy, so it can be an earlier user's of this name; "
        "`peruserd deletions release` or `drop-now` decides",
        Advice.ASK_OPERATOR,
    )
)
_KEPT = NothingToDo("deletions change nothing, by the configuration")
_RESTLESS = Failed(Failure("restless_security", "somebody else writes the security object again and again"))
