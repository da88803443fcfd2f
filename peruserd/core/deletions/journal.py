"""The journal of deletions: the databases that wait to be dropped, the operator's words, and the pause of all drops.

Each is a document of peruserd's own database, so that it outlives instances, nodes and changes of owner. Several
instances and operators write there, and copies can disagree, so every reading here takes all leaves of a document and
lets the more careful one win.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from peruserd.core.common.decoders import json_decoder

# A revision as CouchDB makes them. With `new_edits=false` anybody can write a document with any text as its revision.
_REVISION: Final = re.compile(r"[0-9]{1,10}-[0-9a-f]{32}")

PAUSE_ID: Final = "pause"
WORD_PREFIX: Final = "word:"
DROP_PREFIX: Final = "drop:"
_LAST: Final = "\ufff0"

# Shard maps of one making can differ by the seconds in which two nodes wrote them; half a minute is far more.
_ONE_MAKING_SECONDS: Final = 30.0


class Kind(StrEnum):
    """The subject of an entry; its id begins with this."""

    DELETION = "deletion"  # a user document was deleted, and its database is to be dropped
    RETURN = "return"  # a user came back, and the database is kept shut until the operator says what to do


class State(StrEnum):
    """The stage that an entry has come to."""

    WAITING = "waiting"
    DROPPING = "dropping"  # written before the request that drops, so that it is known after a crash
    ENDED = "ended"


class Ending(StrEnum):
    """The end of an entry."""

    DROPPED = "dropped"
    CANCELLED = "cancelled"  # by the operator
    RELEASED = "released"  # by the operator: the user who came back was let in
    OTHER_DATABASE = "other_database"  # the database of that name is another one by now
    RETURNED = "returned"  # the user document was there again
    SUPERSEDED = "superseded"  # it was deleted anew, which has an entry of its own
    GONE = "gone"  # the database was deleted by somebody else


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One deletion, or one return, as it stands in the journal.

    `suffix` is the one of the database's shards, which tells it from another database of the same name. `revision` is
    the tombstone's, as `revision_key` gives it. Times are seconds of the wall clock. `sequence`, `seen_revision` and
    `instance` say on whose word it was noted. `reservation` is the document that counts the drop, once it was begun.
    """

    document: str
    database: str
    suffix: str
    revision: str
    noted_at: float
    due_at: float
    sequence: int | str | None = None
    instance: str = ""
    kind: Kind = Kind.DELETION
    state: State = State.WAITING
    begun_at: float | None = None
    reservation: str | None = None
    ended_at: float | None = None
    ending: Ending | None = None

    @property
    def id(self) -> str:
        """Return the id of its document."""
        return entry_id(self.kind, self.database, self.revision if self.kind is Kind.DELETION else self.suffix)

    @property
    def is_open(self) -> bool:
        """Say whether something is still to be done."""
        return self.state is not State.ENDED

    def ended(self, ending: Ending, now: float) -> "Entry":
        """Return the entry with its end."""
        return msgspec.structs.replace(self, state=State.ENDED, ending=ending, ended_at=now)

    def begun(self, now: float) -> "Entry":
        """Return the entry as it is written before the drop; one that was begun before keeps its reservation."""
        if self.state is State.DROPPING and self.reservation is not None:
            return self
        reservation = f"{_counted_at(now)}:{self.id}"
        return msgspec.structs.replace(self, state=State.DROPPING, begun_at=now, reservation=reservation)

    def waiting(self) -> "Entry":
        """Return the entry as one whose drop was not made after all."""
        return msgspec.structs.replace(self, state=State.WAITING, begun_at=None, reservation=None)


class Word(StrEnum):
    """The words that the operator can say of an entry, the most careful first."""

    CANCEL = "cancel"  # never drop it
    HOLD = "hold"  # not before another word
    NOTHING = "nothing"
    RELEASE = "release"  # let the user in who came back
    DROP_NOW = "drop-now"


_BY_CARE: Final = tuple(Word)


class Saying(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The operator's word on one entry. `resumed` lets the entry pass a pause. `by` is the user id of who said it."""

    word: Word = Word.NOTHING
    resumed: bool = False
    at: float = 0.0
    by: int | None = None


class PauseReason(StrEnum):
    """The reason why all drops wait."""

    OPERATOR = "operator"
    BREAKER = "breaker"
    UNREADABLE = "unreadable"
    EXPOSED = "exposed"  # others than server admins could write to the journal


class Pause(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whether all drops wait. `resumed_at` is when they last began again: earlier drops do not count any more."""

    paused: bool = False
    why: PauseReason = PauseReason.OPERATOR
    at: float = 0.0
    resumed_at: float = 0.0
    instance: str = ""


UNREADABLE: Final = Pause(paused=True, why=PauseReason.UNREADABLE)
"""A pause that cannot be read is taken for this one."""

_CAREFUL: Final = Saying(Word.HOLD)
"""A word that cannot be read is taken for this one."""


class Standing(msgspec.Struct, frozen=True):
    """How the deletions at hand stand: those that wait, the databases kept shut, what is beyond the bound.

    `oldest_due` is when the first of them is due, by the wall clock in seconds.
    """

    waiting: int = 0
    held: int = 0
    uncounted: int = 0
    oldest_due: float | None = None


def revision_key(revision: str) -> str:
    """Return a revision as it may stand in an id: itself, or a digest where it is not as CouchDB makes them."""
    if _REVISION.fullmatch(revision):
        return revision
    return "x-" + hashlib.sha256(revision.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def entry_id(kind: Kind, database: str, key: str) -> str:
    """Return the id of an entry: one for each tombstone of a database, or each return to it."""
    return f"{kind.value}:{database}:{key}"


def word_id(entry: str) -> str:
    """Return the id of the document that holds the operator's word on the entry of this id."""
    return WORD_PREFIX + entry


def ids_of(kind: Kind, database: str | None = None) -> tuple[str, str]:
    """Return the first and the last id that entries can have, all or those of one database."""
    first = f"{kind.value}:" if database is None else f"{kind.value}:{database}:"
    return first, first + _LAST


def drops_between(since: float, until: float) -> tuple[str, str]:
    """Return the first and the last id of the documents that count drops begun from one moment to another."""
    return f"{_counted_at(since)}:", f"{_counted_at(until)}:{_LAST}"


def _counted_at(moment: float) -> str:
    return f"{DROP_PREFIX}{max(0, int(moment * 1000)):015d}"


def read_saying(leaves: Sequence[Any]) -> Saying:
    """Return what all leaves of a word's document say together; a deleted leaf (None) says nothing.

    The more careful word wins. A leaf that cannot be read is taken for `hold`. An order to let a user in and an order
    to drop that user's database contradict each other, so together they say nothing.
    """
    sayings = [Saying() if leaf is None else _converted(leaf, Saying, _CAREFUL) for leaf in leaves]
    if not sayings:
        return Saying()
    said = {each.word for each in sayings}
    word = min(said, key=_BY_CARE.index)
    if {Word.RELEASE, Word.DROP_NOW} <= said:
        word = min(word, Word.NOTHING, key=_BY_CARE.index)
    last = max(sayings, key=lambda each: each.at)
    return Saying(word, all(each.resumed for each in sayings), last.at, last.by)


def read_pause(leaves: Sequence[Any]) -> Pause:
    """Return what all leaves of the pause's document say together: one that pauses is enough.

    No leaf at all is no pause; a deleted one (None) is none either. A leaf that cannot be read is a pause.
    """
    pauses = [Pause() if leaf is None else _converted(leaf, Pause, UNREADABLE) for leaf in leaves]
    pausing = [each for each in pauses if each.paused]
    if pausing:
        return min(pausing, key=lambda each: each.at)
    return min(pauses, key=lambda each: each.resumed_at, default=Pause())


def read_entry(leaves: Sequence[Any]) -> Entry | None:
    """Return the entry that all leaves of its document show together; None where none can be read.

    A drop that was made is a fact, and an operator's word is final, so these win. A drop that was begun wins over an
    entry that waits.
    """
    entries = [entry for leaf in leaves if leaf is not None and (entry := _converted(leaf, Entry, None)) is not None]
    return min(entries, key=_precedence, default=None)


def same_database(entry: Entry, suffix: str) -> bool:
    """Say whether a database with this suffix is the one that was noted.

    Two nodes that are asked for one database in different seconds make two shard maps, of which one wins later. Their
    suffixes are the seconds of the making, so they are close to each other, and before the deletion. One from the very
    second of the noting can be of a database that somebody made again, so it counts for another one.
    """
    if suffix == entry.suffix:
        return True
    noted, there = made_at(entry.suffix), made_at(suffix)
    if noted is None or there is None:
        return False
    return abs(noted - there) <= _ONE_MAKING_SECONDS and there + 1 <= entry.noted_at


def made_at(suffix: str) -> int | None:
    """Return the second in which the shards of a suffix were made; None where it does not tell."""
    digits = suffix.removeprefix(".")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def renews(known: Entry, noted: Entry) -> bool:
    """Say whether a deletion that is noted anew opens an entry that had ended.

    - An entry opens whose user had come back, because CouchDB can show the same tombstone again after that.
    - An entry opens whose database was gone and is there after all.
    - An entry stays closed that the operator has ended, or whose database is another one by now.
    """
    if known.is_open:
        return False
    if known.ending in (Ending.RETURNED, Ending.SUPERSEDED):
        return True
    return known.ending is Ending.GONE and same_database(known, noted.suffix)


def as_document(value: Entry | Saying | Pause) -> dict[str, Any]:
    """Return what is written to the journal."""
    document: dict[str, Any] = msgspec.to_builtins(value)
    return document


def most_urgent(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order in which they fall due."""
    return sorted(entries, key=lambda each: (each.due_at, each.noted_at, each.id))


_FINAL: Final = {Ending.DROPPED: 0, Ending.CANCELLED: 1, Ending.RELEASED: 2}


def _precedence(entry: Entry) -> tuple[int, float]:
    if entry.ending is not None:
        return _FINAL.get(entry.ending, 5), -(entry.ended_at or 0.0)
    return (3 if entry.state is State.DROPPING else 4), entry.noted_at


def _converted(leaf: Any, kind: type[Any], otherwise: Any) -> Any:
    # So that msgspec knows the type by now (see there).
    json_decoder(kind)
    try:
        return msgspec.convert(leaf, kind)
    except msgspec.ValidationError:
        return otherwise
