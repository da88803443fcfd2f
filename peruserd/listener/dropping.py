"""Carrying out what was decided of one deletion: gathering what is known, writing the journal first, dropping, ending.

The process can end between any two lines. So each step is written to the journal before it is made, each can be made
twice, and what cannot be told afterwards is looked at again.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from peruserd.core import security
from peruserd.core.config import DeletionConfig
from peruserd.core.deletions import Ending, Entry, Kind, Pause, PauseReason, Saying, State, Word, revision_key
from peruserd.core.dropping import Breaker, Drop, End, Known, Reason, Wait, decide, forbids
from peruserd.core.evidence import DocumentState, Verdict
from peruserd.core.names import user_name
from peruserd.core.quarantine import Advice
from peruserd.couch.client import Client, Removal
from peruserd.couch.copies import Copies
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import CouchError
from peruserd.couch.grounds import Grounds

log = structlog.get_logger(__name__)


class JournalMissingError(CouchError):
    """The journal cannot be written: peruserd's own database is not there, or cannot be trusted now."""

    kind = "journal_missing"
    advice = Advice.RETRY


class Tools(msgspec.Struct, frozen=True):
    """What a drop is made with. `confirm` asks the copies of a user document; `look_again` lets a user be served."""

    client: Client
    copies: Copies
    grounds: Grounds
    journal: DeletionJournal
    confirm: Callable[[str], Verdict]
    look_again: Callable[[str], None]
    wall_clock: Callable[[], float] = time.time


class Look(msgspec.Struct):
    """What came of looking at one entry: what it is now, why it waits if it does, and what entries it made beside."""

    entry: Entry
    wait: Wait | None = None
    saying: Saying = Saying()
    dropped: bool = False
    tripped: bool = False
    more: tuple[Entry, ...] = ()


class Dropper:
    """Looks at single entries and carries out what is decided of them; not for two threads at once."""

    def __init__(self, tools: Tools, config: DeletionConfig, instance: str) -> None:
        self._tools = tools
        self._config = config
        self._instance = instance

    def look(self, entry: Entry, pause: Pause, *, is_owner: bool, closely: bool) -> Look:
        """Decide what becomes of an entry, and do it; raises CouchError.

        Unless it is looked at `closely`, what waits for its date or a word is not looked into any further.
        """
        entry = self._tools.journal.entry(entry.id) or entry
        saying = self._tools.journal.saying(entry.id)
        if not entry.is_open or (saying.word is Word.CANCEL and is_owner):
            return self._ended(entry, Ending.CANCELLED, saying) if entry.is_open else Look(entry)
        wait = forbids(entry, saying, pause, self._tools.wall_clock())
        if wait is not None and not closely:
            return Look(entry, wait, saying)
        look = self._decided(entry, self._gather(entry, saying, pause, is_owner=is_owner))
        return msgspec.structs.replace(look, saying=saying)

    def _decided(self, entry: Entry, known: Known) -> Look:
        match decide(entry, known):
            case Wait(Reason.BREAKER) if not known.pause.paused:
                return self._trip(entry)
            case Wait() as wait:
                return Look(entry, wait)
            case End(ending):
                return self._end(entry, ending, known)
            case Drop():
                return self._drop(entry, known)

    def _gather(self, entry: Entry, saying: Saying, pause: Pause, *, is_owner: bool) -> Known:
        tools, now = self._tools, self._tools.wall_clock()
        scene = tools.grounds.scene(
            entry.document,
            entry.database,
            with_dates=entry.due_at > entry.noted_at and saying.word is not Word.DROP_NOW,
        )
        return Known(
            saying=saying,
            pause=pause,
            now=now,
            dates=scene.dates,
            nodes=scene.nodes,
            is_owner=is_owner,
            document=tools.confirm(entry.document),
            suffixes=scene.suffixes,
            hosts=scene.hosts,
            is_blank=tools.grounds.is_blank(entry.database),
            breaker=Breaker(self._others(entry, self._drops(pause, now)), self._config.max_drops),
            is_freed=entry.kind is Kind.DELETION or self._is_freed(entry),
        )

    def _drops(self, pause: Pause, now: float) -> int:
        since = max(now - self._config.per_seconds, pause.resumed_at)
        return self._tools.journal.count_drops(since, self._config.max_drops + 1)

    def _others(self, entry: Entry, drops: int) -> int:
        """Return the number without the entry's own, which was counted when its drop was begun by an earlier look."""
        return max(0, drops - 1) if entry.reservation is not None else drops

    def _is_freed(self, entry: Entry) -> bool | None:
        copies = self._tools.copies.security(entry.database) or ()
        if not copies or any(each.security is None for each in copies):
            return None
        found = [each.security for each in copies if each.security is not None]
        return security.is_freed(found, user_name(entry.document) or "")

    # Ends

    def _end(self, entry: Entry, ending: Ending, known: Known) -> Look:
        more: tuple[Entry, ...] = ()
        if ending is Ending.SUPERSEDED and known.document.rev is not None and entry.kind is Kind.DELETION:
            # Before the old one ends, so that no moment is without an entry.
            anew = msgspec.structs.replace(entry.waiting(), revision=revision_key(known.document.rev))
            more = (self._tools.journal.note(self._dated(anew)),)
        if ending is Ending.RELEASED:
            # Whoever serves the user sees the word, lets the user in, and ends the entry.
            self._tools.look_again(entry.document)
            let_in = known.is_freed is False
            return self._ended(entry, ending, known.saying) if let_in else Look(entry, Wait(Reason.HELD))
        look = self._ended(entry, ending, known.saying)
        if ending in (Ending.RETURNED, Ending.SUPERSEDED) or entry.state is State.DROPPING:
            # It may be that of another moment what is known, and a user who is there must have a database.
            self._tools.look_again(entry.document)
        return msgspec.structs.replace(look, more=more)

    def _ended(self, entry: Entry, ending: Ending, saying: Saying) -> Look:
        now = self._tools.wall_clock()
        if entry.reservation is not None and ending is not Ending.DROPPED and ending is not Ending.GONE:
            self._tools.journal.unreserve(entry.reservation)
        ended = self._tools.journal.change(entry.id, lambda known: (known or entry).ended(ending, now))
        log.info(
            "deletion ended without a drop",
            database=entry.database,
            document=entry.document,
            ending=ending.value,
            word=saying.word.value,
        )
        return Look(ended or entry.ended(ending, now))

    def _dated(self, entry: Entry) -> Entry:
        now = self._tools.wall_clock()
        return msgspec.structs.replace(entry, noted_at=now, due_at=now + self._config.grace_period)

    # Dropping

    def _drop(self, entry: Entry, known: Known) -> Look:
        tools = self._tools
        begun = tools.journal.change(
            entry.id, lambda found: None if _is_over(found) else (found or entry).begun(known.now)
        )
        if begun is None or not begun.is_open or begun.reservation is None:
            return Look(begun or entry, Wait(Reason.NOT_OWNER))
        if not known.is_blank:
            tools.journal.reserve(begun.reservation, begun)
            # Counted again with its own: of several instances that begin at once, none is one too many.
            if not known.saying.resumed and self._drops(known.pause, known.now) > self._config.max_drops:
                return self._trip(begun)
        if not self._is_still_so(begun, known):
            return Look(self._put_back(begun), Wait(Reason.DOCUMENT_UNCLEAR))
        removal = tools.client.drop_database(entry.database)
        if removal is Removal.ACCEPTED:
            return Look(begun, Wait(Reason.HOSTS_AWAY))
        if removal is Removal.ABSENT:
            # No drop of ours. Whether it is gone, two nodes say at the next look.
            return Look(begun, Wait(Reason.DATABASE_UNCLEAR))
        return self._dropped(begun, known)

    def _is_still_so(self, entry: Entry, known: Known) -> bool:
        """Ask once more, as the last thing before the drop: the document, the database, and a pause of that moment."""
        verdict = self._tools.confirm(entry.document)
        if (verdict.state, verdict.rev) != (known.document.state, known.document.rev):
            return False
        if self._tools.journal.saying(entry.id) != known.saying or self._tools.journal.pause() != known.pause:
            return False
        return self._tools.grounds.suffix(entry.database) in known.suffixes

    def _put_back(self, entry: Entry) -> Entry:
        if entry.reservation is not None:
            self._tools.journal.unreserve(entry.reservation)
        return self._tools.journal.change(entry.id, _waiting_again) or entry

    def _trip(self, entry: Entry) -> Look:
        """Stop all drops of the cluster, and say so."""
        now = self._tools.wall_clock()
        self._tools.journal.set_pause(Pause(paused=True, why=PauseReason.BREAKER, at=now, instance=self._instance))
        return Look(self._put_back(entry), Wait(Reason.BREAKER), tripped=True)

    def _dropped(self, entry: Entry, known: Known) -> Look:
        now = self._tools.wall_clock()
        log.info(
            "audit",
            action="drop",
            database=entry.database,
            document=entry.document,
            why=_why(entry, known.saying),
            sequence=entry.sequence,
            revision=known.document.rev,
        )
        after = self._tools.confirm(entry.document)
        if after.state is not DocumentState.DELETED:
            self._tools.look_again(entry.document)
        ended = self._tools.journal.change(entry.id, lambda found: (found or entry).ended(Ending.DROPPED, now))
        return Look(ended or entry.ended(Ending.DROPPED, now), dropped=True)


def _is_over(entry: Entry | None) -> bool:
    return entry is not None and not entry.is_open


def _waiting_again(entry: Entry | None) -> Entry | None:
    return None if entry is None or not entry.is_open else entry.waiting()


def _why(entry: Entry, saying: Saying) -> str:
    if saying.word is Word.DROP_NOW:
        return "the operator's word"
    if entry.kind is Kind.RETURN:
        return "left there when the user of that name came back"
    return "the user document was deleted and the grace period is over"
