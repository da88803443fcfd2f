"""`peruserd audit`: a round of the audit now, what differs, what would be done, and on demand the repair of it.

The command itself changes nothing. With `--repair` it names users to the running daemon, whose listeners look at them.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected, as_command_error, need_users, with_server
from peruserd.cli.loading import load_file
from peruserd.cli.ordering import NotTakenError, answers, refused
from peruserd.cli.output import CommandError, print_json, say, told_beside
from peruserd.cli.parser import EXIT_DONE, EXIT_INTERRUPTED, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import Progress, announce
from peruserd.cli.survey import Known, Survey
from peruserd.core.audit.diagnosis import Diagnosis, Rules
from peruserd.core.audit.findings import UNSEEN, Finding, Remedy
from peruserd.core.cluster.views import Feed
from peruserd.core.common.escaping import counted, named, shown
from peruserd.core.common.names import UnservableNameError, advice_on_id, database_name, user_document_id
from peruserd.core.configuration.config import Config
from peruserd.core.processes import control
from peruserd.core.users.evidence import DocumentState
from peruserd.couch.copies import open_layout
from peruserd.couch.errors import CouchError
from peruserd.daemon.state import StateDirectory
from peruserd.listener.furnishing import open_furnisher
from peruserd.supervisor.attaching import attach

_BETWEEN_SECONDS: Final = 2.0

# A look takes moments; the one that waits for others, such as a crowd that signs up, takes longer.
_NO_BETTER_SECONDS: Final = 30.0


_MAX_UNSEEN: Final = 10


class _Listed(msgspec.Struct, frozen=True):
    user: str
    database: str
    findings: tuple[Finding, ...]
    remedy: Remedy
    words: str


class _Absent(msgspec.Struct, frozen=True):
    """A user who was named and is not there; `silent` are nodes that may know the user and could not be read.

    `hint` says what was meant instead of a name that looks like an id.
    """

    user: str
    database: str
    database_exists: bool
    silent: tuple[str, ...] = ()
    hint: str | None = None


class _Result(msgspec.Struct, frozen=True):
    """The result as JSON: `left` are those that are other than they should be, after the repair if there was one.

    `sent` are the users that were named to the daemon, or would have been. Of the users who were named on the command
    line, `unknown` never had a document, and the document of `deleted` is deleted.
    """

    users: int
    seconds: float
    differing: int
    findings: dict[Finding, int]
    left: list[_Listed]
    sent: list[str]
    unknown: list[_Absent] = []
    deleted: list[_Absent] = []

    @property
    def code(self) -> int:
        """Return 0 where all is right, 1 where something is not, and 75 where all that is known is that much."""
        if self.differing or any(not each.silent for each in self.unknown):
            return EXIT_NOT_DONE
        return EXIT_LATER if self.left or self.unknown else EXIT_DONE


def run(options: argparse.Namespace) -> int:
    """Do a round; exit 0 where nothing differs, 1 where something does, 75 where all that is known is that much."""
    config = load_file(options.config).config
    # Before a round that may take an hour.
    _check_names(config, options.users)
    if options.repair and not options.dry_run:
        _send(StateDirectory.configured(config).path, [], [])
    return with_server(options, lambda connected: _audit(connected, options), connections=options.threads)


def _check_names(config: Config, users: Sequence[str]) -> None:
    """Raise CommandError where a user who was named can have no database."""
    problems = []
    for user in users:
        try:
            database_name(config.databases.prefix, user)
        except UnservableNameError as error:
            problems.append(f"{named(user)}: {error}")
    if problems:
        raise CommandError(EXIT_NOT_DONE, "unservable_name", *problems)


def _audit(connected: Connected, options: argparse.Namespace) -> int:
    config = connected.config
    directory = StateDirectory.configured(config).path
    began = time.monotonic()
    need_users(connected.client, config.couchdb.auth_db)
    survey = _survey(connected, options.threads)
    ids = list(dict.fromkeys(map(user_document_id, options.users)))
    who = counted(len(ids), "user") if ids else "all users"
    announce(f"looking at {who}, and at each copy of their databases")
    known = survey.known(ids)
    ids = ids or _all_ids(survey)
    with Progress("users looked at", len(ids)) as progress:
        found = _without(survey.differing(ids, progress), options.ignore)
    sent = [each.user for each in found if each.wants_look] if options.repair else []
    trouble: CommandError | None = None
    if sent and not options.dry_run:
        _report_found(options, config.databases.prefix, found)
        found, sent, trouble = _repaired(directory, survey, found, sent)
        found = _without(found, options.ignore)
    return _report(options, _result(config.databases.prefix, len(ids), began, found, sent, known), trouble)


def _survey(connected: Connected, threads: int) -> Survey:
    config, client = connected.config, connected.client
    attachment = attach(client, config.couchdb)
    nodes = len(client.membership().cluster_nodes) if attachment.feed is Feed.SHARD else None
    auth_db, templates = config.couchdb.auth_db, connected.templates
    rules = Rules(config.databases, config.deletion, nodes, templates.access(config.security.grant))
    layout = open_layout(client, attachment.feed, "_local", auth_db)
    contents = open_furnisher(client, layout, config.cluster.database, templates).reader()
    return Survey(client, attachment.node, attachment.feed, auth_db, rules, threads, contents)


def _all_ids(survey: Survey) -> list[str]:
    with Progress("users found") as progress:
        users = survey.users(progress)
    # Sorted, so that two rounds of the same users go the same way.
    return [*sorted(users), *survey.nobodies(users, survey.databases())]


def _without(found: Sequence[Diagnosis], ignored: Sequence[Finding]) -> list[Diagnosis]:
    """Return what was found without the kinds that the operator knows of."""
    kept = [
        msgspec.structs.replace(each, findings=tuple(kind for kind in each.findings if kind not in ignored))
        for each in found
    ]
    return [each for each in kept if each.findings]


# The repair


def _repaired(
    directory: Path, survey: Survey, found: Sequence[Diagnosis], users: Sequence[str]
) -> tuple[list[Diagnosis], list[str], CommandError | None]:
    """Name users to the daemon, and watch them; return what is left, who was named, and what ended it too early.

    All that was found before is kept then: to find it can have taken an hour.
    """
    sent: list[str] = []
    left = {each.user: each for each in found}
    trouble: CommandError | None = None
    try:
        _send(directory, users, sent)
        _watch(survey, left)
    except CommandError as error:
        trouble = error
    except CouchError as error:
        trouble = as_command_error(error)
    except KeyboardInterrupt:
        trouble = CommandError(EXIT_INTERRUPTED, "interrupted", "interrupted")
    return [left[user] for user in sorted(left)], sent, trouble


def _send(directory: Path, users: Sequence[str], sent: list[str]) -> None:
    """Name users to the daemon, and note them in `sent`; raises NotTakenError.

    With none, it is only asked whether it is there.
    """
    parts = [users[begin : begin + control.MAX_USERS] for begin in range(0, len(users), control.MAX_USERS)] or [[]]
    for part in parts:
        for answer in answers(directory, control.LookAt(tuple(part))):
            if isinstance(answer, control.Done):
                break
            if isinstance(answer, control.Refused):
                raise refused(answer)
        else:
            raise NotTakenError(EXIT_LATER, "no_answer", "the daemon ended before it took the users")
        sent.extend(part)


def _watch(survey: Survey, left: dict[str, Diagnosis]) -> None:
    """Look at those that a look mends until none is left, or it does not get better; keep in `left` what is left."""
    waiting = {each.user for each in left.values() if each.remedy is Remedy.LOOK}
    better_at = time.monotonic()
    announce(f"waiting until {counted(len(waiting), 'user')} can be seen to be put right")
    with Progress("users put right", len(waiting)) as progress:
        while waiting and time.monotonic() - better_at < _NO_BETTER_SECONDS:
            time.sleep(_BETWEEN_SECONDS)
            seen = {each.user: each for each in survey.at_once(map(user_document_id, sorted(waiting)))}
            still = {each.user for each in seen.values() if each.remedy is Remedy.LOOK}
            if len(still) < len(waiting):
                better_at = time.monotonic()
            progress.advance(len(waiting) - len(still))
            for user in waiting:
                left.pop(user, None)
            left.update(seen)
            waiting = still


# Printing


def _result(
    prefix: str,
    users: int,
    began: float,
    found: Sequence[Diagnosis],
    sent: Sequence[str],
    known: Sequence[Known] = (),
) -> _Result:
    kinds = Counter(kind for each in found for kind in each.findings)
    return _Result(
        users=users,
        seconds=round(time.monotonic() - began, 1),
        differing=sum(each.differs for each in found),
        findings={kind: kinds[kind] for kind in Finding if kinds[kind]},
        left=[_listed(prefix, each) for each in found],
        sent=list(sent),
        unknown=[_absent(each) for each in known if each.state is DocumentState.MISSING],
        deleted=[_absent(each) for each in known if each.state is DocumentState.DELETED],
    )


def _absent(known: Known) -> _Absent:
    hint = advice_on_id(known.user) if known.state is DocumentState.MISSING else None
    return _Absent(known.user, known.database, known.database_exists, known.silent, hint)


def _listed(prefix: str, diagnosis: Diagnosis) -> _Listed:
    try:
        database = database_name(prefix, diagnosis.user)
    except UnservableNameError:
        database = ""
    return _Listed(diagnosis.user, database, diagnosis.findings, diagnosis.remedy, diagnosis.words)


def _report(options: argparse.Namespace, result: _Result, trouble: CommandError | None) -> int:
    for words in () if trouble is None else trouble.problems:
        say(words)
    if options.json:
        print_json(msgspec.to_builtins(result) | told_beside(trouble))
    else:
        for each in result.unknown:
            print(f"{named(each.user)}: {_unknown_words(each)}")
        for each in result.deleted:
            print(f"{named(each.user)}: the user was deleted; {_database_words(each)}")
        _print_list(result.left)
        print(_summary(result, options))
    return result.code if trouble is None else trouble.code


def _unknown_words(absent: _Absent) -> str:
    nodes = ", ".join(absent.silent)
    doubt = f" as far as can be seen without {nodes}" if nodes else ""
    words = f"there is no such user{doubt}; {_database_words(absent)}"
    return f"{words}; {absent.hint}" if absent.hint else words


def _database_words(absent: _Absent) -> str:
    return f"the database {absent.database} is {'there' if absent.database_exists else 'not there'}"


def _report_found(options: argparse.Namespace, prefix: str, found: Sequence[Diagnosis]) -> None:
    if not options.json:
        _print_list([_listed(prefix, each) for each in found])
        users = counted(sum(each.wants_look for each in found), "user")
        print(f"naming {users} to the daemon; what is left is listed again:", flush=True)


def _print_list(listed: Sequence[_Listed]) -> None:
    """Print a line for each user who differs; of those who could not be seen only some, because a node is away."""
    differing = [each for each in listed if not UNSEEN.issuperset(each.findings)]
    unseen = [each for each in listed if UNSEEN.issuperset(each.findings)]
    for each in [*differing, *unseen[:_MAX_UNSEEN]]:
        kinds = ", ".join(each.findings)
        print(f"{named(each.user)}  {each.database}  {kinds}{': ' if each.words else ''}{shown(each.words)}")
    if len(unseen) > _MAX_UNSEEN:
        print(f"… and {counted(len(unseen) - _MAX_UNSEEN, 'user')} more that could not be seen whole")


def _summary(result: _Result, options: argparse.Namespace) -> str:
    lines = [f"{kind.value:<14} {count:,}" for kind, count in result.findings.items()]
    unseen = len(result.left) - result.differing
    words = f"{counted(result.users, 'user')} in {result.seconds:g} s, {result.differing:,} other than they should be"
    words += f", {unseen:,} that could not be seen whole" if unseen else ""
    lines.append(words + (f", {len(result.unknown):,} not there" if result.unknown else ""))
    mended = sum(each.remedy is Remedy.LOOK for each in result.left)
    if options.repair and options.dry_run:
        lines.append(f"with --repair alone, {counted(len(result.sent), 'user')} would be named to the daemon")
    elif mended and not options.repair:
        lines.append(f"`peruserd audit --repair` lets the running daemon put {mended:,} of them right")
    elif mended:
        users = counted(mended, "user")
        lines.append(f"{users} not put right in time; the daemon's log and `peruserd plan` may say why")
    return "\n".join(lines)
