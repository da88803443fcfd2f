"""The decision to drop a database now: a pure function of all that is known at that moment.

A drop cannot be taken back, so each condition must hold, and a fact that is not known is a reason to wait.
Only what is certain ends an entry without a drop.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

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
"""How far the clocks of two nodes may be apart that are to say what time it is."""


class Reason(StrEnum):
    """The reason why a drop waits."""

    NOT_DUE = "not_due"
    HELD = "held"  # by the operator
    PAUSED = "paused"  # all drops, by the operator
    PAUSE_UNREADABLE = "pause_unreadable"
    BREAKER = "breaker"  # all drops, because there were too many
    NOT_OWNER = "not_owner"
    NOT_THE_USERS = "not_the_users"  # the entry names another database than that of its document's user
    CLOCKS = "clocks"  # no two nodes agree on what time it is
    DOCUMENT_MISSING = "document_missing"
    DOCUMENT_UNCLEAR = "document_unclear"
    DATABASE_UNCLEAR = "database_unclear"  # nodes disagree on whether it is there, and which
    HOSTS_AWAY = "hosts_away"


class Drop(msgspec.Struct, frozen=True):
    """Drop it now."""


class Wait(msgspec.Struct, frozen=True):
    """Look again later; `until` is the wall clock where that is known."""

    reason: Reason
    until: float | None = None


class End(msgspec.Struct, frozen=True):
    """There is nothing more to do."""

    ending: Ending


class Redate(msgspec.Struct, frozen=True):
    """Let the entry have been noted at a moment, because the clock that it was noted by was ahead."""

    at: float


Decision = Drop | Wait | End | Redate


class Hosts(msgspec.Struct, frozen=True):
    """The nodes that host one range of a database, in `all`, and those of them that are connected, in `there`."""

    all: frozenset[str]
    there: frozenset[str]

    @property
    def have_majority(self) -> bool:
        """Say whether more than half of them are connected; a range that nobody hosts has none."""
        return 2 * len(self.there & self.all) > len(self.all)


class Breaker(msgspec.Struct, frozen=True):
    """How many drops were begun within the time that counts, and how many may be."""

    drops: int
    max_drops: int

    @property
    def is_full(self) -> bool:
        """Say whether one more drop is too many."""
        return self.drops >= self.max_drops


class Known(msgspec.Struct, frozen=True):
    """The facts that are known at the moment of a decision.

    `prefix` is what the names of users' databases begin with here. `now` is this machine's wall clock and `dates` the
    clocks of CouchDB nodes, by name; `nodes` is how many are connected. `document` is what the copies of the user
    document say, counted one by one. `suffixes` are those under which nodes know the database, None where a node knows
    none. `hosts` are those of every range concerned: the document's, the database's, and that of the journal itself.
    `is_blank` says that nobody ever wrote a document to the database, on any copy. `is_freed` says that its
    security object does not name the user, and None that not every copy could be read.
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
    """Say what becomes of an entry."""
    for ask in (_over, _of_word, _of_document, _of_database, _of_return, _of_pause, _of_time, _of_cluster, _of_breaker):
        decision = ask(entry, known)
        if decision is not None:
            return decision
    return Drop()


def forbids(entry: Entry, saying: Saying, pause: Pause, now: float) -> Wait | None:
    """Say by a word, a pause or its date why an entry need not be looked at closely now; None where it must be.

    It is what `decide` says with everything else unknown, and costs no request for each entry.
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
    """Say whether there is a grace period; without one there is nothing that a clock could be wrong about."""
    return entry.due_at > entry.noted_at


def _is_noted_after(entry: Entry, moment: float) -> bool:
    """Say whether an entry was noted so long after a moment that one of two clocks is wrong."""
    return entry.noted_at > moment + CLOCKS_AGREE_WITHIN_SECONDS


def clocks_say(dates: Mapping[str, float], nodes: int) -> float | None:
    """Return the time by the clocks of the nodes, which is the earlier of two that agree; None where none do.

    A cluster of one node has one clock.
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
        # An instance with another prefix has noted it, or somebody who could write to the journal for a moment.
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
        # It is dropped for the user who is there, so that one begins with an empty database.
        return None if state is DocumentState.LIVE else End(Ending.SUPERSEDED)
    if state is DocumentState.LIVE:
        return End(Ending.RETURNED)
    if state is DocumentState.MISSING or known.document.rev is None:
        # The authentication database was made anew, and that deleted no user.
        return Wait(Reason.DOCUMENT_MISSING)
    if known.document.behind:
        # Access is taken away all the same. But what a copy that is behind hides can make the user live again.
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
    # Somebody let the user in, and what is in the database can be the user's own by now.
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
        # Nobody can have seen what they let pass.
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
