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
- A new database is complete before its user gets access. One whose security object nobody ever wrote is new.
- A database that was there before keeps the rights of its user. A rollout alone changes them, for a live user.
- A database that somebody deleted is made again for a live user, unless the configuration leaves that to the operator.
- A revocation ends when each copy was seen to be without the user. A copy that cannot be read is waited for.
- A look at copies ends when each was read on a node that is connected: such a copy is about to be made, by CouchDB.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from peruserd.core.configuration.config import DeletionPolicy, WhenDeleted
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.facts import Database, Facts, Hint
from peruserd.core.users.quarantine import UNCONFIRMED, Advice, Failure
from peruserd.core.users.security import CopiesDisagreeError, Security
from peruserd.core.users.steps import Ask, Create, Failed, Furnish, NothingToDo, Removed, Served, Step, Write, WriteEach

Edit = Callable[[Security, str], Security]
"""A change of a security object for a user; it returns the very same object where nothing changes."""

# Another writer who undoes each write is not fought for ever within one act.
_MAX_WRITES: Final = 5


def decide(facts: Facts) -> Step:
    """Return the next step; raises MalformedSecurityError where an object cannot be read at all."""
    if facts.rollout and (step := _not_rolled_out(facts)) is not None:
        return step
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


def _not_rolled_out(facts: Facts) -> Step | None:
    """Confirm the document before everything, and leave what is no live user's database to the other reasons."""
    if facts.state is None:
        return Ask.DOCUMENT
    if facts.state in (DocumentState.DELETED, DocumentState.MISSING) or facts.database is Database.ABSENT:
        return _NO_ROLLOUT
    return Ask.COPIES if facts.database is Database.UNKNOWN and facts.state is DocumentState.LIVE else None


def _claimed_live(facts: Facts) -> Step:
    """Serve a new user on the word of its row; confirm the document wherever something was there before."""
    if facts.database is Database.THERE:
        if facts.glance is None and facts.copies is None:
            # The one copy of a glance can have been away when the name was freed.
            return Ask.COPIES if facts.holds else Ask.GLANCE
        seen = facts.readable if facts.glance is None else (facts.glance,)
        is_known = not facts.in_doubt and (facts.has_majority or not facts.holds) and not facts.unread
        is_right = is_known and _agree(seen) and security.admits(seen[0], facts.user, facts.access)
        return Served() if is_right else Ask.DOCUMENT
    return _live(facts)


def _claimed_deleted(facts: Facts) -> Step:
    """Look for something to take away before asking whether it may be taken."""
    is_kept = facts.policy is DeletionPolicy.KEEP and not facts.in_doubt
    if facts.database is Database.ABSENT:
        return Ask.DOCUMENT if facts.notes_ends else Removed(absent=True)
    if is_kept and (not facts.notes_ends or facts.copies is not None):
        return _KEPT
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
        return _made(facts)
    if facts.database in (Database.CREATED, Database.ACCEPTED):
        return _new(facts)
    if facts.copies is None:
        return Ask.COPIES
    try:
        return _furnished_before(facts, _kept_shut(facts) or _brought_to(facts, _giving(facts), Served()))
    except CopiesDisagreeError:
        if not facts.silent:
            raise
        # Those that are away can make one of the objects the majority's.
        return _away(facts)


def _made(facts: Facts) -> Step:
    """Make the database, unless somebody deleted it and the configuration leaves that to the operator."""
    if facts.when_deleted is WhenDeleted.REMAKE or facts.deleted_by_others is False:
        return Create()
    return Ask.REMOVAL if facts.deleted_by_others is None else _DELETED


def _kept_shut(facts: Facts) -> Step | None:
    """Ask the operator before a user gets a database that was there and is nobody's, if the configuration says so.

    The copies decide together: one that was away when the name was freed still names it. Such a copy is brought to
    what the others hold before the operator is asked. A blank copy decides nothing while another one is away.
    """
    if not facts.holds or facts.admitted:
        return None
    written = sum(not security.is_blank(each) for each in facts.readable)
    if not facts.has_majority or (facts.silent and not _is_most(written, facts)):
        return _away(facts)
    if not security.is_freed(facts.readable, len(facts.copies or ()), facts.user):
        return None
    if facts.rollout:
        return _NO_ROLLOUT
    end = Ask.ADMISSION if facts.admitted is None else _HELD
    try:
        return _brought_to(facts, security.revoke, end)
    except CopiesDisagreeError:
        return _revoked_each(facts, end)


def _is_most(number: int, facts: Facts) -> bool:
    return 2 * number > len(facts.copies or ())


def _deleted(facts: Facts) -> Step:
    if facts.database is Database.ABSENT:
        return Removed(absent=True)
    if facts.policy is DeletionPolicy.KEEP and not (facts.notes_ends and facts.database is Database.UNKNOWN):
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
        return _furnished_before(facts, Write(security.first(facts.user, facts.access)))
    if facts.database is Database.ACCEPTED:
        return Failed(Failure("accepted_only", "only a minority of the nodes has created the database"))
    return Served()


def _furnished_before(facts: Facts, step: Step) -> Step:
    """Put what is due into a database before its user is let in for the first time, or where a rollout has ended."""
    is_first = isinstance(step, Write) and all(map(security.is_blank, facts.readable))
    if not facts.templated or not (is_first or (facts.rollout and isinstance(step, Served))):
        return step
    if is_first and any(map(security.is_public, facts.readable)):
        # A user can make it look new, and let it refuse what is written first. It is open to nobody meanwhile.
        return Write(security.SHUT)
    if facts.refusals:
        # A database that its user has never had refuses nothing by its user's code.
        advice = Advice.ASK_OPERATOR if is_first else Advice.GIVE_UP
        return Failed(Failure("template_refused", f"the database refuses {facts.refusals}", advice))
    if facts.contents is None:
        return Ask.CONTENTS
    if not facts.contents.is_due(overwrite=facts.overwrite):
        return step
    return _RESTLESS_DOCUMENTS if facts.furnished >= _MAX_WRITES else Furnish()


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


def _revoked_each(facts: Facts, end: Step) -> Step:
    """Take the user out of each copy that can be read, by itself, and end so where none of them names the user."""
    copies = enumerate(facts.copies or ())
    before = [(place, each.security) for place, each in copies if each.security is not None]
    after = [(place, security.revoke(each, facts.user)) for place, each in before]
    changed = tuple(new for new, (_, old) in zip(after, before, strict=True) if new[1] is not old)
    if not changed:
        return end
    return _RESTLESS if facts.written >= _MAX_WRITES else WriteEach(changed)


def _ended(facts: Facts, end: Step) -> Step:
    """End, except that a write waits for each copy, also an earlier one's, and so does a revocation.

    CouchDB's own repair gives a copy that was away what all others hold, but only where those are the same. It lets a
    majority win when a node returns (`mem3_sync_security`), and can set a copy back that was revoked while the others
    were away. So one look at copies that agree is not enough for a revocation of which an earlier write had failed.
    """
    is_removal = isinstance(end, Removed)
    if facts.unread or (facts.silent and (facts.written or facts.in_doubt or is_removal)):
        return _away(facts)
    if facts.written and facts.in_doubt and is_removal:
        return Failed(Failure("to_be_seen_again", "the copies agree now, and are looked at once more"))
    return end


def _away(facts: Facts) -> Failed:
    message = f"copies of the database cannot be read on {', '.join(facts.silent)}; they are waited for"
    return Failed(Failure("copies_away", message, waits_for=facts.silent))


def _giving(facts: Facts) -> Edit:
    """Return the change that gives a user the database that was there before."""
    return partial(security.grant if facts.rollout else security.admit, access=facts.access)


def _closed(found: Security, _user: str) -> Security:
    return security.close(found)


_HELD = Failed(
    Failure(
        "held",
        "the database was there before and does not name the user, so it can be an earlier user's of this name; "
        "`peruserd deletions release` or `drop-now` decides",
        Advice.ASK_OPERATOR,
    )
)
_DELETED = Failed(
    Failure(
        "database_deleted",
        "somebody deleted the database of a user who is there; `peruserd audit --repair --user` makes it again",
        Advice.GIVE_UP,
    )
)
_KEPT = NothingToDo("deletions change nothing, by the configuration")
_NO_ROLLOUT = NothingToDo("a rollout concerns databases that live users have")
_RESTLESS_DOCUMENTS = Failed(Failure("restless_documents", "somebody else writes the documents of templates as well"))
_RESTLESS = Failed(Failure("restless_security", "somebody else writes the security object again and again"))
