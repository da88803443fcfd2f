"""The decision whether to drop a database now: a pure function of all known facts.

A drop is irreversible. So every condition must hold, and an unknown fact is a reason to wait. Only certain facts end an
entry without a drop.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from peruserd.core.common.majority import is_majority
from peruserd.core.common.names import decode_database_name, user_name
from peruserd.core.deletions.journal import (
    Ending,
    Entry,
    Kind,
    Pause,
    PauseReason,
    Saying,
    Word,
    revision_key,
    same_database,
)
from peruserd.core.users.evidence import DocumentState, Verdict

CLOCKS_AGREE_WITHIN_SECONDS: Final = 60.0
"""The most by which the clocks of two nodes may differ if they are to tell the time."""


class Reason(StrEnum):
    """The reason why a drop waits."""

    NOT_DUE = "not_due"
    HELD = "held"  # by the operator
    PAUSED = "paused"  # all drops, by the operator
    PAUSE_UNREADABLE = "pause_unreadable"
    BREAKER = "breaker"  # all drops, because there were too many
    NOT_OWNER = "not_owner"
    NOT_THE_USERS = "not_the_users"  # the entry's database is not the one of its document's user
    CLOCKS = "clocks"  # no two nodes agree on the time
    DOCUMENT_MISSING = "document_missing"
    DOCUMENT_UNCLEAR = "document_unclear"
    DATABASE_UNCLEAR = "database_unclear"  # nodes disagree whether the database exists, and which one it is
    HOSTS_AWAY = "hosts_away"


class Drop(msgspec.Struct, frozen=True):
    """Drop the database now."""


class Wait(msgspec.Struct, frozen=True):
    """Decide again later. `until` is a time of the wall clock, if it is known."""

    reason: Reason
    until: float | None = None


class End(msgspec.Struct, frozen=True):
    """End the entry without a drop."""

    ending: Ending


class Redate(msgspec.Struct, frozen=True):
    """Set the time at which the entry was noted to `at`, because the clock of that time was ahead."""

    at: float


Decision = Drop | Wait | End | Redate


class Hosts(msgspec.Struct, frozen=True):
    """The hosts of one range of a database: `all` of them, and the connected ones (`there`)."""

    all: frozenset[str]
    there: frozenset[str]

    @property
    def have_majority(self) -> bool:
        """Say whether more than half of the hosts are connected. A range without hosts has no majority."""
        return is_majority(len(self.there & self.all), len(self.all))


class Breaker(msgspec.Struct, frozen=True):
    """The number of drops that were begun within the counted time, and its limit."""

    drops: int
    max_drops: int

    @property
    def is_full(self) -> bool:
        """Say whether one more drop is too many."""
        return self.drops >= self.max_drops


class Known(msgspec.Struct, frozen=True):
    """The known facts at the moment of a decision.

    - `prefix`: the configured prefix of users' databases.
    - `now`: this machine's wall clock. `dates`: the clocks of CouchDB nodes, by name. `nodes`: how many are connected.
    - `document`: the judgement on all copies of the user document.
    - `suffixes`: the suffixes under which nodes know the database; None stands for a node that knows no such database.
    - `hosts`: the hosts of every range concerned, which are the document's, the database's and the journal's ranges.
    - `is_blank`: no document was ever written to any copy of the database.
    - `is_freed`: whether the security object does not name the user; None if not every copy could be read.
    """

    prefix: str
    saying: Saying
    pause: Pause
    now: float
    dates: Mapping[str, float]
    nodes: int
    is_owner: bool
    document: Verdict
    suffixes: frozenset[str | None]
    hosts: Sequence[Hosts]
    is_blank: bool
    breaker: Breaker
    is_freed: bool | None = True


def decide(entry: Entry, known: Known) -> Decision:
    """Return the decision on an entry. The first rule that applies decides."""
    for ask in (_over, _of_word, _of_document, _of_database, _of_return, _of_pause, _of_time, _of_cluster, _of_breaker):
        decision = ask(entry, known)
        if decision is not None:
            return decision
    return Drop()


def forbids(entry: Entry, saying: Saying, pause: Pause, now: float) -> Wait | None:
    """Return why an entry must wait, by the operator's word, the pause or its date alone; None if it may be due.

    It is the answer of `decide` as far as these facts decide it, and costs no request for each entry.
    """
    is_let_in = saying.word is Word.RELEASE and entry.kind is Kind.RETURN
    if saying.word is Word.CANCEL or is_let_in or not entry.is_open:
        return None
    if saying.word is Word.HOLD:
        return Wait(Reason.HELD)
    paused = _paused(saying, pause)
    if paused is not None:
        return paused
    is_timed = saying.word is not Word.DROP_NOW and entry.kind is Kind.DELETION and _has_grace(entry)
    if is_timed and now < entry.due_at and not _is_noted_after(entry, now):
        return Wait(Reason.NOT_DUE, entry.due_at)
    return None


def _has_grace(entry: Entry) -> bool:
    """Say whether there is a grace period. Without one no clock matters."""
    return entry.due_at > entry.noted_at


def _is_noted_after(entry: Entry, moment: float) -> bool:
    """Say whether an entry's time is so far after a moment that one of two clocks must be wrong."""
    return entry.noted_at > moment + CLOCKS_AGREE_WITHIN_SECONDS


def clocks_say(dates: Mapping[str, float], nodes: int) -> float | None:
    """Return the time by the clocks of the nodes: the earlier one of two that agree; None if no two agree.

    In a cluster of one node the only clock counts.
    """
    earliest_first = sorted(dates.values())
    if nodes <= 1:
        return earliest_first[0] if earliest_first else None
    for first, second in pairwise(earliest_first):
        if second - first <= CLOCKS_AGREE_WITHIN_SECONDS:
            return first
    return None


def _over(entry: Entry, known: Known) -> Decision | None:
    if entry.ending is not None:
        return End(entry.ending)
    user = user_name(entry.document)
    if user is None or decode_database_name(known.prefix, entry.database) != user:
        # An instance with another prefix has written the entry, or somebody had access to the journal for a moment.
        return Wait(Reason.NOT_THE_USERS)
    return None if known.is_owner else Wait(Reason.NOT_OWNER)


def _of_word(entry: Entry, known: Known) -> Decision | None:
    word = known.saying.word
    if word is Word.CANCEL:
        return End(Ending.CANCELLED)
    if word is Word.HOLD:
        return Wait(Reason.HELD)
    return End(Ending.RELEASED) if entry.kind is Kind.RETURN and word is Word.RELEASE else None


def _of_document(entry: Entry, known: Known) -> Decision | None:
    state = known.document.state
    if state is DocumentState.UNCLEAR:
        return Wait(Reason.DOCUMENT_UNCLEAR)
    if entry.kind is Kind.RETURN:
        # The old database is dropped for a live user, who then gets an empty one.
        return None if state is DocumentState.LIVE else End(Ending.SUPERSEDED)
    if state is DocumentState.LIVE:
        return End(Ending.RETURNED)
    if state is DocumentState.MISSING or known.document.rev is None:
        # The authentication database was created anew, and that has deleted no user.
        return Wait(Reason.DOCUMENT_MISSING)
    if known.document.behind:
        # Access is revoked all the same. But a copy that is behind can hide a revision that makes the user live again.
        return Wait(Reason.DOCUMENT_UNCLEAR)
    if revision_key(known.document.rev) != entry.revision:
        return End(Ending.SUPERSEDED)
    return None


def _of_database(entry: Entry, known: Known) -> Decision | None:
    if len(known.suffixes) != 1:
        return Wait(Reason.DATABASE_UNCLEAR)
    (suffix,) = known.suffixes
    if suffix is None:
        return End(Ending.GONE)
    if not same_database(entry, suffix):
        return End(Ending.OTHER_DATABASE)
    if entry.kind is Kind.DELETION or known.is_freed:
        return None
    # Somebody has admitted the user, so the content may be the user's own by now.
    return Wait(Reason.DATABASE_UNCLEAR) if known.is_freed is None else End(Ending.RELEASED)


def _of_return(entry: Entry, known: Known) -> Decision | None:
    is_held = entry.kind is Kind.RETURN and known.saying.word is not Word.DROP_NOW
    return Wait(Reason.HELD) if is_held else None


def _of_pause(_entry: Entry, known: Known) -> Decision | None:
    return _paused(known.saying, known.pause)


def _paused(saying: Saying, pause: Pause) -> Wait | None:
    if not pause.paused:
        return None
    if pause.why is PauseReason.UNREADABLE:
        # Nobody can have resumed entries under a pause that cannot be read.
        return Wait(Reason.PAUSE_UNREADABLE)
    if saying.resumed:
        return None
    return Wait(Reason.BREAKER if pause.why is PauseReason.BREAKER else Reason.PAUSED)


def _of_time(entry: Entry, known: Known) -> Decision | None:
    if entry.kind is Kind.RETURN or known.saying.word is Word.DROP_NOW or not _has_grace(entry):
        return None
    theirs = clocks_say(known.dates, known.nodes)
    if theirs is not None and _is_noted_after(entry, max(known.now, theirs)):
        return Redate(max(known.now, theirs))
    if known.now < entry.due_at:
        return Wait(Reason.NOT_DUE, entry.due_at)
    if theirs is None:
        return Wait(Reason.CLOCKS)
    return Wait(Reason.NOT_DUE, known.now + entry.due_at - theirs) if theirs < entry.due_at else None


def _of_cluster(_entry: Entry, known: Known) -> Decision | None:
    if not known.hosts or not all(each.have_majority for each in known.hosts):
        return Wait(Reason.HOSTS_AWAY)
    return None


def _of_breaker(_entry: Entry, known: Known) -> Decision | None:
    if known.is_blank or known.saying.resumed or not known.breaker.is_full:
        return None
    return Wait(Reason.BREAKER)
