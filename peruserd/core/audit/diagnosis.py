"""The audit's judgement on one user: the findings, and what a look would do about them.

Only a look repairs anything (`core.users.decision`). The audit asks the same decision for its next step, so it never
promises more than a look does. The audit reads everything first, whereas a look asks one question after the other.

Additional names and roles from the database's own admin are never a finding. A database that its user opened to
everybody is closed again, because granting access puts the user's name among the members.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.audit.findings import LASTING, NO_REASON_TO_LOOK, UNSEEN, Finding, Remedy
from peruserd.core.common.names import database_name
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.users import security
from peruserd.core.users.contents import Contents
from peruserd.core.users.decision import decide
from peruserd.core.users.evidence import DocumentState, Evidence, Verdict, judge
from peruserd.core.users.facts import CopyReading, Database, Facts, Hint
from peruserd.core.users.quarantine import Advice, Failure
from peruserd.core.users.security import AS_COUCH_PERUSER, Access, CopiesDisagreeError, MalformedSecurityError, Security
from peruserd.core.users.steps import Ask, Create, Failed, Step, Write, WriteEach


class Shape(msgspec.Struct, frozen=True):
    """The options of a database: its ranges, the fewest copies of any range, and whether it is partitioned.

    `ranges` is None while ranges are being split, because they overlap meanwhile.
    """

    ranges: int | None
    copies: int
    partitioned: bool = False


class Observation(msgspec.Struct, frozen=True):
    """All that was observed of one user.

    - `copies`: the security objects; None if there is no database.
    - `shape`: None if the server does not tell.
    - `too_large`: a security object was too large to be read.
    - `unpadded`: the database under couch_peruser's different name for this user, if there is one.
    - `contents`: the state of the templates' documents and options, if there are templates and the user exists.
    - `contents_unread`: why that state could not be read.
    """

    user: str
    evidence: Evidence
    copies: tuple[CopyReading, ...] | None = None
    shape: Shape | None = None
    too_large: bool = False
    unpadded: str | None = None
    contents: Contents | None = None
    contents_unread: str = ""


class Rules(msgspec.Struct, frozen=True):
    """The desired state. `nodes` is how many nodes the cluster has; a database cannot have more copies.

    `access` are the rights for a user without any. Other rights in an old database are no finding.
    """

    databases: DatabasesConfig
    deletion: DeletionConfig
    nodes: int | None = None
    access: Access = AS_COUCH_PERUSER


class Diagnosis(msgspec.Struct, frozen=True):
    """The findings about one user, their remedy, and what would be done, in words.

    `is_to_drop` says that the user is deleted, that the configuration drops the database, and that it still exists.
    This is no finding, because the drop may wait for its time. But a look notes a deletion in the journal if nobody
    noted it before.
    """

    user: str
    findings: tuple[Finding, ...] = ()
    remedy: Remedy = Remedy.NOTHING
    words: str = ""
    is_to_drop: bool = False

    @property
    def differs(self) -> bool:
        """Say whether anything differs from the desired state."""
        return not UNSEEN.issuperset(self.findings)

    @property
    def may_pass(self) -> bool:
        """Say whether a second look may differ, because a user is just being served or a copy catches up."""
        return not (LASTING | UNSEEN).issuperset(self.findings)

    @property
    def wants_look(self) -> bool:
        """Say whether an instance should look at the user, because a look repairs or notes something.

        A look notes a returning user in the journal, for the operator. If too few copies can be read, a look puts the
        user into quarantine, and the instance looks again as soon as the nodes return.
        """
        waits = self.remedy is Remedy.LATER and not NO_REASON_TO_LOOK.issuperset(self.findings)
        return self.remedy is Remedy.LOOK or waits or Finding.HELD in self.findings


def diagnose(seen: Observation, rules: Rules) -> Diagnosis:
    """Return the findings about a user's database, and what a look would do about them."""
    verdict = judge(seen.evidence)
    step = _next_step(seen, verdict, rules)
    findings = {*_of_document(seen, verdict), *_of_database(seen, verdict, rules)}
    if step is Ask.ADMISSION:
        # A rollout skips such a user.
        findings = {*findings - {Finding.NOT_NAMED, Finding.TEMPLATE}, Finding.HELD}
    is_deleted = verdict.state is DocumentState.DELETED and seen.copies is not None
    is_to_drop = is_deleted and rules.deletion.policy is DeletionPolicy.DROP
    if not findings:
        return Diagnosis(seen.user, is_to_drop=is_to_drop)
    remedy, words = _remedy(step, findings)
    text = "; ".join(filter(None, [words, *_details(seen, verdict, findings)]))
    return Diagnosis(seen.user, tuple(sorted(findings, key=_ORDER.index)), remedy, text, is_to_drop)


def seen_twice(first: Diagnosis, second: Diagnosis) -> Diagnosis:
    """Return the newer diagnosis with only the findings of both.

    While a user is just being served everything changes between two observations, and nothing is wrong. A finding of
    `UNSEEN` is no difference, and one observation is enough for it.
    """
    findings = tuple(each for each in second.findings if each in first.findings)
    if not findings:
        return Diagnosis(second.user, is_to_drop=second.is_to_drop)
    return second if findings == second.findings else msgspec.structs.replace(second, findings=findings)


def unpadded_name(prefix: str, user: str) -> str | None:
    """Return the name that couch_peruser (up to 3.5) gives a user's database; None if peruserd's name is the same.

    couch_peruser writes one digit for a byte below 0x10, so two users can share a database. Raises UnservableNameError.
    """
    padded = database_name(prefix, user)
    name = prefix + "".join(f"{byte:x}" for byte in user.encode())
    return None if name == padded else name


def nodes_behind(evidence: Evidence, verdict: Verdict) -> tuple[str, ...]:
    """Return the nodes whose copy does not know the winning revision, sorted; empty if no revision won."""
    if verdict.rev is None:
        return ()
    behind = {
        each.node
        for each in evidence.readings
        if (each.winner is None or each.winner.rev != verdict.rev) and verdict.rev not in each.knows
    }
    return tuple(sorted(behind))


def lacks(evidence: Evidence, node: str) -> bool:
    """Say whether the copy on `node` lacks a revision that another copy shows.

    A row in another copy's feed is not enough to say so. CouchDB can show two documents under one id, if the bytes of
    one id are not valid UTF-8, and their revisions differ.
    """
    shown = {each.winner.rev for each in evidence.readings if each.node != node and each.winner is not None}
    mine = [each for each in evidence.readings if each.node == node]
    known = [each.knows | ({each.winner.rev} if each.winner is not None else set()) for each in mine]
    return any(not shown <= each for each in known)


def has_document(evidence: Evidence, node: str) -> bool:
    """Say whether the copy on `node` has a row of the document."""
    return any(each.node == node and each.winner is not None for each in evidence.readings)


_ORDER: Final = tuple(Finding)

# The limit of documents and options that a sentence names; there can be a hundred.
_MAX_NAMED: Final = 5


def _next_step(seen: Observation, verdict: Verdict, rules: Rules) -> Step:
    facts = Facts(
        seen.user,
        Hint.CONTESTED,
        policy=rules.deletion.policy,
        on_return=rules.deletion.on_return,
        when_deleted=rules.databases.when_deleted,
        access=rules.access,
        database=Database.ABSENT if seen.copies is None else Database.THERE,
        document=verdict,
        copies=seen.copies,
    )
    try:
        return decide(facts)
    except MalformedSecurityError as error:
        return Failed(Failure("malformed_security", str(error), Advice.ASK_OPERATOR))
    except CopiesDisagreeError as error:
        return Failed(Failure("copies_disagree", str(error), Advice.ASK_OPERATOR))


def _of_document(seen: Observation, verdict: Verdict) -> Iterable[Finding]:
    is_missing = verdict.state is DocumentState.MISSING and seen.copies is not None
    if verdict.state is DocumentState.UNCLEAR or (is_missing and verdict.silent):
        # The unreadable copy can be the only one that knows the user.
        yield Finding.UNCONFIRMED
    elif is_missing:
        yield Finding.NO_USER
    if nodes_behind(seen.evidence, verdict):
        yield Finding.COPY_BEHIND
    if verdict.state in (DocumentState.LIVE, DocumentState.DELETED) and seen.unpadded is not None:
        yield Finding.UNPADDED


def _of_database(seen: Observation, verdict: Verdict, rules: Rules) -> Iterable[Finding]:
    is_live = verdict.state is DocumentState.LIVE
    is_revoked = verdict.state is DocumentState.DELETED and rules.deletion.policy is not DeletionPolicy.KEEP
    if seen.copies is None:
        if is_live:
            yield Finding.MISSING
        return
    if not is_live and not is_revoked:
        return
    if seen.too_large:
        yield Finding.UNREADABLE
    is_silent = not seen.copies or any(each.security is None and not each.lost for each in seen.copies)
    if (is_silent and not seen.too_large) or seen.contents_unread:
        yield Finding.COPIES_SILENT
    if is_live and seen.shape is not None and not _is_as_configured(seen.shape, rules):
        yield Finding.OPTIONS
    if is_live and seen.contents is not None and seen.contents.is_due(overwrite=False):
        yield Finding.TEMPLATE
    # A lost copy names nobody, and CouchDB can create it between two looks.
    objects = [security.CLOSED if each.lost else each.security for each in seen.copies]
    found = [each for each in objects if each is not None]
    yield from _of_security(found, seen.user, rules.access if is_live else None)


def _of_security(found: list[Security], user: str, access: Access | None) -> Iterable[Finding]:
    """Yield the findings about the security objects. `access` is None if the user must not have access."""
    if any(each != found[0] for each in found):
        yield Finding.COPIES_DIFFER
    for each in found:
        try:
            if security.is_public(each):
                yield Finding.PUBLIC
            if access is not None and not security.admits(each, user, access):
                yield Finding.NOT_NAMED
            if access is None and security.names_user(each, user):
                yield Finding.STILL_NAMED
        except MalformedSecurityError:
            yield Finding.UNREADABLE


def _is_as_configured(shape: Shape, rules: Rules) -> bool:
    wanted = rules.databases
    most = shape.copies if rules.nodes is None else rules.nodes
    return (
        shape.ranges in (None, wanted.q)
        and (wanted.n is None or shape.copies == min(wanted.n, most))
        and shape.partitioned == wanted.partitioned
    )


def _remedy(step: Step, findings: set[Finding]) -> tuple[Remedy, str]:
    match step:
        case Create():
            return Remedy.LOOK, "the database is made"
        case Ask.REMOVAL:
            return Remedy.LOOK, "if somebody deleted the database, it is made again at the operator's word alone"
        case Write():
            return Remedy.LOOK, "the security object is written to all copies"
        case WriteEach(securities):
            return Remedy.LOOK, f"the user is taken out of each copy by itself, {len(securities)} of them"
        case Ask.ADMISSION:
            return Remedy.OPERATOR, "`peruserd deletions release` lets the user in, `drop-now` begins with an empty one"
        case Failed(failure):
            return (Remedy.OPERATOR if failure.advice is Advice.ASK_OPERATOR else Remedy.LATER), failure.message
    if UNSEEN.issuperset(findings):
        return Remedy.LATER, ""
    return Remedy.OPERATOR, ""


def _details(seen: Observation, verdict: Verdict, findings: set[Finding]) -> Iterable[str]:
    """Yield the details of the findings, in words."""
    if Finding.OPTIONS in findings and seen.shape is not None:
        yield f"it was made with {_made_with(seen.shape)}, which cannot be changed from outside"
    if Finding.TEMPLATE in findings and seen.contents is not None:
        yield f"`peruserd templates rollout` brings {_due(seen.contents)}"
    if Finding.UNPADDED in findings:
        yield f"couch_peruser's database of this user is {seen.unpadded}"
    if Finding.NO_USER in findings:
        yield "no document of this user is known, so it is left alone"
    if verdict.state is DocumentState.MISSING and Finding.UNCONFIRMED in findings:
        yield f"no document of this user is known, as far as can be read; {', '.join(verdict.silent)} cannot"
    if Finding.COPY_BEHIND in findings:
        nodes = ", ".join(nodes_behind(seen.evidence, verdict))
        yield f"the copy of the user document on {nodes} does not know revision {verdict.rev}"
    yield from _details_of_copies(seen, findings)
    if seen.too_large and Finding.UNREADABLE in findings:
        yield "the security object is too large to be read"


def _details_of_copies(seen: Observation, findings: set[Finding]) -> Iterable[str]:
    silent = sorted({each.node for each in seen.copies or () if each.security is None and not each.lost})
    if lost := sorted({each.node for each in seen.copies or () if each.lost}):
        yield f"{', '.join(lost)} has no file of its copy"
    if Finding.COPIES_SILENT in findings and silent:
        yield f"the security object could not be read on {', '.join(silent)}"
    if Finding.COPIES_SILENT in findings and seen.contents_unread:
        yield f"its documents of templates could not be read: {seen.contents_unread}"


def _due(contents: Contents) -> str:
    due = [*(f"{each.id} ({each.status})" for each in contents.due(overwrite=False)), *contents.options]
    words = ", ".join(due[:_MAX_NAMED])
    return words if len(due) <= _MAX_NAMED else f"{words} and {len(due) - _MAX_NAMED} more"


def _made_with(shape: Shape) -> str:
    words = [f"n={shape.copies}"] if shape.ranges is None else [f"q={shape.ranges}", f"n={shape.copies}"]
    return ", ".join([*words, "partitioned"] if shape.partitioned else words)
