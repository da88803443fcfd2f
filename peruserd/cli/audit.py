"""`peruserd audit`: a round of the audit now, what differs, what would be done, and on demand the repair of it.

The command itself changes nothing. With `--repair` it names users to the running daemon, whose listeners look at them.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.connecting import Connected, with_server
from peruserd.cli.loading import complain, load_file
from peruserd.cli.ordering import NotTakenError, answers
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import Progress
from peruserd.cli.survey import Survey
from peruserd.core import control
from peruserd.core.auditing import Diagnosis, Rules
from peruserd.core.config import Config
from peruserd.core.decoding import ConfigError
from peruserd.core.findings import UNSEEN, Finding, Remedy
from peruserd.core.names import UnservableNameError, database_name, user_document_id
from peruserd.core.printing import shown
from peruserd.core.views import Feed
from peruserd.couch.copies import open_layout
from peruserd.daemon.state import StateDirectory
from peruserd.listener.furnishing import open_furnisher
from peruserd.supervisor.attaching import attach

_BETWEEN_SECONDS: Final = 2.0

# A look takes moments; the one that waits for others, such as a crowd that signs up, takes longer.
_NO_BETTER_SECONDS: Final = 30.0


_MOST_UNSEEN: Final = 10


class _Listed(msgspec.Struct, frozen=True):
    user: str
    database: str
    findings: tuple[Finding, ...]
    remedy: Remedy
    words: str


class _Result(msgspec.Struct, frozen=True):
    """The result as JSON: `left` are those that are other than they should be, after the repair if there was one.

    `sent` are the users that were named to the daemon, or would have been.
    """

    users: int
    seconds: float
    differing: int
    findings: dict[Finding, int]
    left: list[_Listed]
    sent: list[str]


def run(options: argparse.Namespace) -> int:
    """Do a round; exit 0 where nothing differs, 1 where something does, 75 where all that is known is that much."""
    try:
        config = load_file(options.config).config
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    # Before a round that may take an hour.
    if not _can_be_done(config, options):
        return EXIT_NOT_DONE
    if options.repair and not options.dry_run:
        try:
            _send(StateDirectory.configured(config).path, [])
        except NotTakenError as error:
            _say(str(error))
            return error.code
    return with_server(options, lambda connected: _audit(connected, options), connections=options.threads)


def _can_be_done(config: Config, options: argparse.Namespace) -> bool:
    """Say whether each user that was named can have a database at all."""
    try:
        for user in options.users:
            database_name(config.databases.prefix, user)
    except UnservableNameError as error:
        _say(f"{shown(user)}: {error}")
        return False
    return True


def _audit(connected: Connected, options: argparse.Namespace) -> int:
    config = connected.config
    directory = StateDirectory.configured(config).path
    began = time.monotonic()
    survey = _survey(connected, options.threads)
    ids = [user_document_id(each) for each in options.users] if options.users else _all_ids(survey)
    with Progress("users looked at", len(ids)) as progress:
        found = _without(survey.differing(ids, progress), options.ignore)
    sent = [each.user for each in found if each.wants_look] if options.repair else []
    if options.dry_run or not sent:
        return _report(options, _result(config.databases.prefix, len(ids), began, found, sent))
    _report_found(options, config.databases.prefix, found)
    try:
        _send(directory, sent)
    except NotTakenError as error:
        _say(str(error))
        return error.code
    left = _without(_watch(survey, found), options.ignore)
    return _report(options, _result(config.databases.prefix, len(ids), began, left, sent))


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
    return [*sorted(users), *survey.nobodies(users)]


def _without(found: Sequence[Diagnosis], ignored: Sequence[Finding]) -> list[Diagnosis]:
    """Return what was found without the kinds that the operator knows of."""
    kept = [
        msgspec.structs.replace(each, findings=tuple(kind for kind in each.findings if kind not in ignored))
        for each in found
    ]
    return [each for each in kept if each.findings]


# The repair


def _send(directory: Path, users: Sequence[str]) -> None:
    """Name users to the daemon; raises NotTakenError. With none, it is only asked whether it is there."""
    parts = [users[begin : begin + control.MOST_USERS] for begin in range(0, len(users), control.MOST_USERS)] or [[]]
    for part in parts:
        for answer in answers(directory, control.LookAt(tuple(part))):
            if isinstance(answer, control.Done):
                break
            if isinstance(answer, control.Refused):
                raise NotTakenError(shown(answer.why), EXIT_LATER if answer.again else EXIT_NOT_DONE)
        else:
            raise NotTakenError("the daemon ended before it took the users", EXIT_LATER)


def _watch(survey: Survey, found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Look at those that a look mends until none is left, or it does not get better; return all that is left."""
    left = {each.user: each for each in found}
    waiting = {each.user for each in found if each.remedy is Remedy.LOOK}
    better_at = time.monotonic()
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
    return [left[user] for user in sorted(left)]


# Printing


def _result(prefix: str, users: int, began: float, found: Sequence[Diagnosis], sent: Sequence[str]) -> _Result:
    kinds = Counter(kind for each in found for kind in each.findings)
    return _Result(
        users=users,
        seconds=round(time.monotonic() - began, 1),
        differing=sum(each.differs for each in found),
        findings={kind: kinds[kind] for kind in Finding if kinds[kind]},
        left=[_listed(prefix, each) for each in found],
        sent=list(sent),
    )


def _listed(prefix: str, diagnosis: Diagnosis) -> _Listed:
    try:
        database = database_name(prefix, diagnosis.user)
    except UnservableNameError:
        database = ""
    return _Listed(diagnosis.user, database, diagnosis.findings, diagnosis.remedy, diagnosis.words)


def _report(options: argparse.Namespace, result: _Result) -> int:
    if options.json:
        print(msgspec.json.encode(result).decode())
    else:
        _print_list(result.left)
        print(_summary(result, options))
    if result.differing:
        return EXIT_NOT_DONE
    return EXIT_LATER if result.left else EXIT_DONE


def _report_found(options: argparse.Namespace, prefix: str, found: Sequence[Diagnosis]) -> None:
    if not options.json:
        _print_list([_listed(prefix, each) for each in found])
        print(f"{_users(sum(each.wants_look for each in found))} named to the daemon; what is left is listed again:")


def _print_list(listed: Sequence[_Listed]) -> None:
    """Print a line for each user who differs; of those who could not be seen only some, because a node is away."""
    differing = [each for each in listed if not UNSEEN.issuperset(each.findings)]
    unseen = [each for each in listed if UNSEEN.issuperset(each.findings)]
    for each in [*differing, *unseen[:_MOST_UNSEEN]]:
        kinds = ", ".join(each.findings)
        print(f"{shown(each.user)}  {each.database}  {kinds}{': ' if each.words else ''}{shown(each.words)}")
    if len(unseen) > _MOST_UNSEEN:
        print(f"… and {_users(len(unseen) - _MOST_UNSEEN)} more that could not be seen whole")


def _summary(result: _Result, options: argparse.Namespace) -> str:
    lines = [f"{kind.value:<14} {count:,}" for kind, count in result.findings.items()]
    unseen = len(result.left) - result.differing
    words = f"{_users(result.users)} in {result.seconds:g} s, {result.differing:,} other than they should be"
    lines.append(words + (f", {unseen:,} that could not be seen whole" if unseen else ""))
    mended = sum(each.remedy is Remedy.LOOK for each in result.left)
    if options.repair and options.dry_run:
        lines.append(f"with --repair alone, {_users(len(result.sent))} would be named to the daemon")
    elif mended and not options.repair:
        lines.append(f"`peruserd audit --repair` lets the running daemon put {mended:,} of them right")
    elif mended:
        lines.append(f"{_users(mended)} not put right in time; the daemon's log and `peruserd plan` may say why")
    return "\n".join(lines)


def _users(count: int) -> str:
    return f"{count:,} user" + ("" if count == 1 else "s")


def _say(words: str) -> None:
    print(f"peruserd: {words}", file=sys.stderr, flush=True)
