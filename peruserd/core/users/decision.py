"""The decision about one user, from the known facts. Pure, and the only place where this decision is made.

A row of a feed, a retry or a scan is a *reason to look*, and never the truth. The decision takes the known facts and
returns one step. A step is a question (find out another fact), an act, or the end. The provisioner carries out the
step, adds the new fact and asks again. So each rule stands here once, for every reason to look.

The rules, in short:

- A database is new if the `PUT` for a live row was answered 201. Its security object is always the same constant.
- Access is restored or taken away only after the user document was confirmed copy by copy.
- An existing security object is replaced only after its copies were compared.
- A live row is believed in two cases: one copy was read and names the user, or all copies were read and agree.
- After a write the object is read again from each copy. If a copy differs, the work starts again from the new state.
- A new database is complete before its user gets access. For this rule a database with a blank object is new as well.
- A database that existed before keeps its user's rights. Only a rollout changes them, and only for a live user.
- A deleted database is created again for a live user, unless the configuration leaves that to the operator.
- A revocation ends when every copy was read without the user's name. An unreadable copy is waited for.
- A look at copies waits for every copy on a connected node. CouchDB is about to create such a copy if it is missing.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from peruserd.core.common.majority import is_majority
from peruserd.core.configuration.choices import DeletionPolicy, WhenDeleted
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.facts import Database, Facts, Hint
from peruserd.core.users.quarantine import UNCONFIRMED, Advice, Failure
from peruserd.core.users.security import CopiesDisagreeError, Security
from peruserd.core.users.steps import (
    Ask,
    Create,
    Failed,
    NothingToDo,
    Removed,
    Served,
    Step,
    Write,
    WriteEach,
    WriteTemplates,
)

Edit = Callable[[Security, str], Security]
"""A change of a security object for a user. It returns the same object, by identity, if nothing changes."""

# Another writer may undo each write. One act does not compete with such a writer for ever.
_MAX_WRITES: Final = 5


def decide(facts: Facts) -> Step:
    """Return the next step. Raises MalformedSecurityError if a security object has an unreadable shape."""
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
    """Confirm the document first. Databases without a live user are left to the other reasons to look."""
    if facts.state is None:
        return Ask.DOCUMENT
    if facts.state in (DocumentState.DELETED, DocumentState.MISSING) or facts.database is Database.ABSENT:
        return _NO_ROLLOUT
    return Ask.COPIES if facts.database is Database.UNKNOWN and facts.state is DocumentState.LIVE else None


def _claimed_live(facts: Facts) -> Step:
    """Serve a new user because of the row alone. If a database existed before, confirm the document first."""
    if facts.database is Database.THERE:
        if facts.glance is None and facts.copies is None:
            # A glance reads one copy, and that copy can have been away when the name was freed.
            return Ask.COPIES if facts.holds else Ask.GLANCE
        seen = facts.readable if facts.glance is None else (facts.glance,)
        is_known = not facts.in_doubt and (facts.has_majority or not facts.holds) and not facts.unread
        is_right = is_known and _agree(seen) and security.admits(seen[0], facts.user, facts.access)
        return Served() if is_right else Ask.DOCUMENT
    return _live(facts)


def _claimed_deleted(facts: Facts) -> Step:
    """Find out first whether there is anything to revoke, and only then whether it may be revoked."""
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
        # Without a new row the database usually exists.
        return Ask.COPIES
    if facts.database in (Database.UNKNOWN, Database.ABSENT):
        return _made(facts)
    if facts.database in (Database.CREATED, Database.ACCEPTED):
        return _new(facts)
    if facts.copies is None:
        return Ask.COPIES
    try:
        return _templates_first(facts, _held_for_operator(facts) or _reconciled(facts, _giving(facts), Served()))
    except CopiesDisagreeError:
        if not facts.silent:
            raise
        # With the copies that are away, one of the objects may have a majority.
        return _away(facts)


def _made(facts: Facts) -> Step:
    """Create the database, unless somebody deleted it and the configuration leaves that to the operator."""
    if facts.when_deleted is WhenDeleted.REMAKE or facts.deleted_by_others is False:
        return Create()
    return Ask.REMOVAL if facts.deleted_by_others is None else _DELETED


def _held_for_operator(facts: Facts) -> Step | None:
    """Ask the operator before a user gets an existing database without an owner, if the configuration says so.

    All copies decide together, because a copy that was away when the name was freed still names the earlier user. Such
    a copy is first brought to the state of the others, and then the operator is asked. A blank copy decides nothing
    while another copy is away.
    """
    if not facts.holds or facts.admitted:
        return None
    written = sum(not security.is_blank(each) for each in facts.readable)
    if not facts.has_majority or (facts.silent and not is_majority(written, len(facts.copies or ()))):
        return _away(facts)
    if not security.is_freed(facts.readable, len(facts.copies or ()), facts.user):
        return None
    if facts.rollout:
        return _NO_ROLLOUT
    end = Ask.ADMISSION if facts.admitted is None else _HELD
    try:
        return _reconciled(facts, security.revoke, end)
    except CopiesDisagreeError:
        return _revoked_each(facts, end)


def _deleted(facts: Facts) -> Step:
    if facts.database is Database.ABSENT:
        return Removed(absent=True)
    if facts.policy is DeletionPolicy.KEEP and not (facts.notes_ends and facts.database is Database.UNKNOWN):
        return _written_again(facts) if facts.in_doubt else _KEPT
    if facts.copies is None:
        return Ask.COPIES
    if not facts.has_majority:
        return _revoked_each(facts, _away(facts))
    try:
        return _reconciled(facts, security.revoke, Removed())
    except CopiesDisagreeError as error:
        # Nobody can say which copy is right, but no copy may name the user.
        failure = Failure("copies_disagree", str(error), Advice.ASK_OPERATOR, facts.silent)
        return _revoked_each(facts, Failed(failure))


def _missing(facts: Facts) -> Step:
    """Do nothing for a user without a document: another document had the row, or `_users` was created anew."""
    if facts.in_doubt and facts.database is not Database.ABSENT:
        return _written_again(facts)
    return NothingToDo("there is no such user document")


def _unclear(facts: Facts) -> Step:
    verdict = facts.document or Verdict(DocumentState.UNCLEAR)
    message = f"whether the user document is there cannot be confirmed: {verdict.why}"
    return Failed(Failure(UNCONFIRMED, message, waits_for=verdict.silent))


def _new(facts: Facts) -> Step:
    if not facts.written:
        return _templates_first(facts, Write(security.first(facts.user, facts.access)))
    if facts.database is Database.ACCEPTED:
        return Failed(Failure("accepted_only", "only a minority of the nodes has created the database"))
    return Served()


def _templates_first(facts: Facts, step: Step) -> Step:
    """Write the templates' documents before the user gets access for the first time, or at the end of a rollout."""
    is_first = isinstance(step, Write) and all(map(security.is_blank, facts.readable))
    if not facts.templated or not (is_first or (facts.rollout and isinstance(step, Served))):
        return step
    if is_first and any(map(security.is_public, facts.readable)):
        # A user can make a database look new, with code that refuses the first write. So it is closed meanwhile.
        return Write(security.CLOSED)
    if facts.refusals:
        # In a database without access until now, no code of the user can be the reason for the refusal.
        advice = Advice.ASK_OPERATOR if is_first else Advice.GIVE_UP
        return Failed(Failure("template_refused", f"the database refuses {facts.refusals}", advice))
    if facts.contents is None:
        return Ask.CONTENTS
    if not facts.contents.is_due(overwrite=facts.overwrite):
        return step
    return _RESTLESS_DOCUMENTS if facts.template_writes >= _MAX_WRITES else WriteTemplates()


def _written_again(facts: Facts) -> Step:
    """Write the same security object to all copies. They may disagree, because an earlier write may be incomplete."""
    if facts.copies is None:
        return Ask.COPIES
    return _reconciled(facts, _closed, NothingToDo("the security object is whole again"))


def _reconciled(facts: Facts, edit: Edit, end: Step) -> Step:
    """Write the object that the copies agree on, changed by `edit`, to all copies.

    Nothing is written if only a minority could be read. A write reaches every copy that is there by then. But a copy
    that did not answer can hold names that the others have lost. Raises CopiesDisagreeError if they agree on nothing.
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
    """Say whether there is at least one object, and all are equal."""
    return bool(found) and all(each == found[0] for each in found)


def _revoked_each(facts: Facts, end: Step) -> Step:
    """Take the user out of each readable copy separately. Return `end` once no readable copy names the user."""
    copies = enumerate(facts.copies or ())
    before = [(place, each.security) for place, each in copies if each.security is not None]
    after = [(place, security.revoke(each, facts.user)) for place, each in before]
    changed = tuple(new for new, (_, old) in zip(after, before, strict=True) if new[1] is not old)
    if not changed:
        return end
    return _RESTLESS if facts.written >= _MAX_WRITES else WriteEach(changed)


def _ended(facts: Facts, end: Step) -> Step:
    """Return `end`, unless a copy is still to be waited for.

    - After a write, of this act or an earlier one, every copy is waited for.
    - A revocation waits for every copy.
    - An unreadable copy on a connected node is always waited for.

    CouchDB can undo a revocation. When nodes return, it lets the majority of the copies win (`mem3_sync_security`). A
    copy that was written while the others were away loses against them. So after a failed write, a revocation needs a
    second look that finds it complete.
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
    """Return the change that gives a user an existing database."""
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
