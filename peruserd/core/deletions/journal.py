"""The journal of deletions: the databases that wait to be dropped, the operator's words, and the pause of all drops.

Each of them is a document of peruserd's own database, so it outlives instances, nodes and changes of owner. Several
instances and operators write there, and copies can disagree. So every function here reads all leaves of a document, and
the most careful leaf wins.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from peruserd.core.common.decoders import json_decoder

T = TypeVar("T")
U = TypeVar("U")

# A revision as CouchDB makes it. With `new_edits=false` anybody can write a document with any text as its revision.
_REVISION: Final = re.compile(r"[0-9]{1,10}-[0-9a-f]{32}")

PAUSE_ID: Final = "pause"
WORD_PREFIX: Final = "word:"
DROP_PREFIX: Final = "drop:"
_LAST: Final = "\ufff0"

# If two nodes create a database together, their shard maps differ by some seconds. Half a minute is far more.
_ONE_MAKING_SECONDS: Final = 30.0


class Kind(StrEnum):
    """The subject of an entry. The entry's id begins with it."""

    DELETION = "deletion"  # a user document was deleted, and its database is to be dropped
    RETURN = "return"  # a user returned, and nobody gets access to the database until the operator decides


class State(StrEnum):
    """The stage of an entry."""

    WAITING = "waiting"
    DROPPING = "dropping"  # written before the request that drops the database, so that a crash does not hide it
    ENDED = "ended"


class Ending(StrEnum):
    """The reason why an entry has ended."""

    DROPPED = "dropped"
    CANCELLED = "cancelled"  # by the operator
    RELEASED = "released"  # by the operator: the returning user got access
    OTHER_DATABASE = "other_database"  # the database was created anew since
    RETURNED = "returned"  # the user document was there again
    SUPERSEDED = "superseded"  # the document was deleted again, and that deletion has its own entry
    GONE = "gone"  # the database was deleted by somebody else


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One deletion, or one return, as it is written in the journal.

    - `suffix`: the suffix of the database's shards. It tells the database from another one of the same name.
    - `revision`: the tombstone's revision, as `revision_key` returns it.
    - `noted_at`, `due_at`, `begun_at`, `ended_at`: seconds of the wall clock.
    - `sequence`, `instance`: the row and the instance that caused the entry.
    - `reservation`: the id of the document that counts the drop, once the drop was begun.
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
        """Return the id of the entry's document."""
        return entry_id(self.kind, self.database, self.revision if self.kind is Kind.DELETION else self.suffix)

    @property
    def is_open(self) -> bool:
        """Say whether the entry has not ended."""
        return self.state is not State.ENDED

    def ended(self, ending: Ending, now: float) -> "Entry":
        """Return the entry with its end."""
        return msgspec.structs.replace(self, state=State.ENDED, ending=ending, ended_at=now)

    def begun(self, now: float) -> "Entry":
        """Return the entry as it is written before the drop. An earlier reservation is kept."""
        if self.state is State.DROPPING and self.reservation is not None:
            return self
        reservation = f"{_counted_at(now)}:{self.id}"
        return msgspec.structs.replace(self, state=State.DROPPING, begun_at=now, reservation=reservation)

    def waiting(self) -> "Entry":
        """Return the entry after a drop that was begun but not carried out."""
        return msgspec.structs.replace(self, state=State.WAITING, begun_at=None, reservation=None)


class Word(StrEnum):
    """The operator's possible words on an entry, the most careful first."""

    CANCEL = "cancel"  # never drop the database
    HOLD = "hold"  # do not drop it before another word
    NOTHING = "nothing"
    RELEASE = "release"  # give the returning user access
    DROP_NOW = "drop-now"


_BY_CARE: Final = tuple(Word)


class Saying(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The operator's word on one entry. `resumed` lets the entry pass a pause. `by` is the operator's user id."""

    word: Word = Word.NOTHING
    resumed: bool = False
    at: float = 0.0
    by: int | None = None


class PauseReason(StrEnum):
    """The reason why all drops wait."""

    OPERATOR = "operator"
    BREAKER = "breaker"
    UNREADABLE = "unreadable"
    EXPOSED = "exposed"  # others than server admins could have written to the journal


class Pause(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The pause of all drops. `resumed_at` is when the last pause ended; earlier drops do not count any more."""

    paused: bool = False
    why: PauseReason = PauseReason.OPERATOR
    at: float = 0.0
    resumed_at: float = 0.0
    instance: str = ""


UNREADABLE: Final = Pause(paused=True, why=PauseReason.UNREADABLE)
"""The value for a pause that cannot be read."""

_CAREFUL: Final = Saying(Word.HOLD)
"""The value for a word that cannot be read."""


class DeletionStatus(msgspec.Struct, frozen=True):
    """The state of a listener's deletions: how many wait, how many databases are held, how many are beyond the limit.

    `oldest_due` is when the first of them is due, by the wall clock in seconds.
    """

    waiting: int = 0
    held: int = 0
    uncounted: int = 0
    oldest_due: float | None = None


def revision_key(revision: str) -> str:
    """Return a revision as a part of an id. A revision that CouchDB did not make is replaced by a digest."""
    if _REVISION.fullmatch(revision):
        return revision
    return "x-" + hashlib.sha256(revision.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def entry_id(kind: Kind, database: str, key: str) -> str:
    """Return the id of an entry. There is one for each tombstone of a database, or for each return to it."""
    return f"{kind.value}:{database}:{key}"


def word_id(entry: str) -> str:
    """Return the id of the document with the operator's word on the entry with this id."""
    return WORD_PREFIX + entry


def ids_of(kind: Kind, database: str | None = None) -> tuple[str, str]:
    """Return the first and the last possible id of entries, of one database or of all."""
    first = f"{kind.value}:" if database is None else f"{kind.value}:{database}:"
    return first, first + _LAST


def drops_between(since: float, until: float) -> tuple[str, str]:
    """Return the first and the last possible id of the documents that count drops begun between two moments."""
    return f"{_counted_at(since)}:", f"{_counted_at(until)}:{_LAST}"


def _counted_at(moment: float) -> str:
    return f"{DROP_PREFIX}{max(0, int(moment * 1000)):015d}"


def converted(leaf: Any, kind: type[T], otherwise: U) -> T | U:
    """Return a leaf of a document as a value of a type; `otherwise` if it cannot be read as one."""
    # So that msgspec knows the type already (see `core.common.decoders`).
    json_decoder(kind)
    try:
        return msgspec.convert(leaf, kind)
    except msgspec.ValidationError:
        return otherwise


def read_saying(leaves: Sequence[Any]) -> Saying:
    """Return the operator's word from all leaves of its document.

    - The most careful word wins.
    - A deleted leaf (None) means no word.
    - A leaf that cannot be read counts as `hold`.
    - `release` and `drop-now` contradict each other, so together they mean no word.
    """
    sayings = [Saying() if leaf is None else converted(leaf, Saying, _CAREFUL) for leaf in leaves]
    if not sayings:
        return Saying()
    said = {each.word for each in sayings}
    word = min(said, key=_BY_CARE.index)
    if {Word.RELEASE, Word.DROP_NOW} <= said:
        word = min(word, Word.NOTHING, key=_BY_CARE.index)
    last = max(sayings, key=lambda each: each.at)
    return Saying(word, all(each.resumed for each in sayings), last.at, last.by)


def read_pause(leaves: Sequence[Any]) -> Pause:
    """Return the pause from all leaves of its document. One pausing leaf is enough.

    A leaf that cannot be read is a pause. Without a leaf there is no pause, and a deleted leaf (None) is no pause.
    """
    pauses = [Pause() if leaf is None else converted(leaf, Pause, UNREADABLE) for leaf in leaves]
    pausing = [each for each in pauses if each.paused]
    if pausing:
        return min(pausing, key=lambda each: each.at)
    return min(pauses, key=lambda each: each.resumed_at, default=Pause())


def read_entry(leaves: Sequence[Any]) -> Entry | None:
    """Return the entry from all leaves of its document; None if no leaf can be read.

    A completed drop is a fact, and an operator's word is final, so these win. A drop that was begun wins over a waiting
    entry.
    """
    entries = [entry for leaf in leaves if leaf is not None and (entry := converted(leaf, Entry, None)) is not None]
    return min(entries, key=_precedence, default=None)


def same_database(entry: Entry, suffix: str) -> bool:
    """Say whether a database with this suffix is the database of the entry.

    If two nodes create one database in different seconds, there are two shard maps, and one of them wins later. The
    suffixes are the seconds of the creation, so they are close to each other and before the deletion. A suffix from the
    same second as the entry counts as another database, because somebody may have created it again.
    """
    if suffix == entry.suffix:
        return True
    noted, there = made_at(entry.suffix), made_at(suffix)
    if noted is None or there is None:
        return False
    return abs(noted - there) <= _ONE_MAKING_SECONDS and there + 1 <= entry.noted_at


def made_at(suffix: str) -> int | None:
    """Return the second in which the shards with this suffix were created; None if the suffix does not tell."""
    digits = suffix.removeprefix(".")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else None


def renews(known: Entry, noted: Entry) -> bool:
    """Say whether an ended entry is opened again because its deletion is seen again.

    - It is opened if the user had returned, because CouchDB can show the same tombstone again after that.
    - It is opened if the database was gone and exists after all.
    - It stays closed if the operator has ended it, or if there is another database now.
    """
    if known.is_open:
        return False
    if known.ending in (Ending.RETURNED, Ending.SUPERSEDED):
        return True
    return known.ending is Ending.GONE and same_database(known, noted.suffix)


def heeded(noted: Entry, earlier: Iterable[tuple[Entry, Saying]]) -> Saying | None:
    """Return the operator's word for a new deletion, as earlier deletions of its database and their words decide it.

    A user can be deleted, sign up and be deleted again. Words that keep the database also hold for the second deletion:

    - A deletion that was cancelled keeps its database for good.
    - A hold of a deletion that is open lasts until it is taken back.
    - Each other word is about its deletion alone.

    The pairs are read up to the first cancelled deletion. Pairs that `can_keep` refuses change nothing.
    """
    held: Saying | None = None
    for each, saying in earlier:
        if not can_keep(each, noted):
            continue
        if each.ending is Ending.CANCELLED or saying.word is Word.CANCEL:
            return Saying(Word.CANCEL, at=saying.at, by=saying.by)
        if saying.word is Word.HOLD and held is None:
            held = Saying(Word.HOLD, at=saying.at, by=saying.by)
    return held


def can_keep(earlier: Entry, noted: Entry) -> bool:
    """Say whether a word about an earlier deletion can hold for the one that is noted."""
    return (earlier.is_open or earlier.ending is Ending.CANCELLED) and same_database(earlier, noted.suffix)


def as_document(value: Entry | Saying | Pause) -> dict[str, Any]:
    """Return the document to write to the journal."""
    document: dict[str, Any] = msgspec.to_builtins(value)
    return document


def most_urgent(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order of their due dates."""
    return sorted(entries, key=lambda each: (each.due_at, each.noted_at, each.id))


_FINAL: Final = {Ending.DROPPED: 0, Ending.CANCELLED: 1, Ending.RELEASED: 2}


def _precedence(entry: Entry) -> tuple[int, float]:
    if entry.ending is not None:
        return _FINAL.get(entry.ending, 5), -(entry.ended_at or 0.0)
    return (3 if entry.state is State.DROPPING else 4), entry.noted_at
