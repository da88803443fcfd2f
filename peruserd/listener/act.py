"""One look at one user, and its line in the log."""

import msgspec
import structlog

from peruserd.core.feed.changes import Change
from peruserd.core.users.evidence import Verdict
from peruserd.listener.outcome import Outcome

log = structlog.get_logger(__name__)


class Act(msgspec.Struct):
    """One look at one user, with its outcome so far.

    `intended` says that the creation of the database was noted on disk, and `wrote` that a security object was written.
    """

    change: Change
    name: str
    database: str
    outcome: Outcome
    intended: bool = False
    wrote: bool = False
    verdict: Verdict | None = None


def write_down(act: Act) -> None:
    """Log a change of access or existence: the action, the database, the reason, and the revision it follows."""
    outcome = act.outcome
    action = outcome.action or ("write" if act.wrote else None)
    if action is None:
        return
    details = {
        "sequence": act.change.sequence,
        "revision": None if act.verdict is None else act.verdict.rev,
        "incomplete": None if outcome.failure is None else outcome.failure.kind,
    }
    log.info(
        "audit",
        action=action,
        database=act.database,
        document=act.change.document_id,
        why=act.change.lane.name.lower(),
        **{key: value for key, value in details.items() if value is not None},
    )
