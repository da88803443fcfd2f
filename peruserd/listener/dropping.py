"""Carrying out one deletion: gather the facts, let the core decide, write the journal, then drop the database.

The process can end between any two lines. So each step is written to the journal before it is made, and each can be
made twice. Where the result of a step is not known afterwards, the entry is looked at again.
"""

import time
from collections.abc import Callable

import msgspec
import structlog

from peruserd.core.common.majority import is_majority
from peruserd.core.common.names import user_name
from peruserd.core.configuration.config import DeletionConfig
from peruserd.core.deletions.drop import (
    CLOCKS_AGREE_WITHIN_SECONDS,
    Breaker,
    Drop,
    End,
    Known,
    Reason,
    Redate,
    Wait,
    decide,
    forbids,
)
from peruserd.core.deletions.journal import Ending, Entry, Kind, Pause, PauseReason, Saying, State, Word, revision_key
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Client, Removal
from peruserd.couch.copies import Copies
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.drop_facts import DropFactsReader
from peruserd.couch.errors import CouchError
from peruserd.listener.drops_under_way import DropsUnderWay
from peruserd.listener.noting import note_deletion

log = structlog.get_logger(__name__)


class JournalMissingError(CouchError):
    """The journal cannot be written: peruserd's own database is not there, or cannot be trusted now."""

    kind = "journal_missing"
    advice = Advice.RETRY


class Tools(msgspec.Struct, frozen=True):
    """The tools of a drop. `confirm` asks the copies of a user document; `look_again` has a worker look at a user.

    `prefix` is the beginning of the names of users' databases. `notes_ends` says that the expected ends of databases
    are recorded for good.
    """

    prefix: str
    client: Client
    copies: Copies
    facts: DropFactsReader
    journal: DeletionJournal
    confirm: Callable[[str], Verdict]
    look_again: Callable[[str], None]
    wall_clock: Callable[[], float] = time.time
    notes_ends: bool = False


def noting_time(tools: Tools, config: DeletionConfig) -> float:
    """Return the time of a note; raises CouchError.

    It is the later of our time and the server's, so a slow clock never shortens a grace period.
    """
    now = tools.wall_clock()
    return max(now, tools.facts.now() or now) if config.grace_period else now


class Look(msgspec.Struct):
    """The result of looking at one entry: the entry now, why it waits if it does, and the entries made beside it."""

    entry: Entry
    wait: Wait | None = None
    saying: Saying = Saying()
    dropped: bool = False
    tripped: bool = False
    more: tuple[Entry, ...] = ()


class Dropper:
    """Looks at entries and carries out the decisions, if their documents are `mine`; not for two threads at once."""

    def __init__(
        self, tools: Tools, config: Callable[[], DeletionConfig], instance: str, mine: Callable[[str], bool]
    ) -> None:
        self._tools = tools
        self._config = config
        self._instance = instance
        self._mine = mine
        self.under_way = DropsUnderWay()

    def look(self, entry: Entry, pause: Pause, *, closely: bool) -> Look:
        """Decide what becomes of an entry, and do it; raises CouchError.

        An entry that waits for its date or for the operator is examined no further, unless `closely` is set.
        """
        is_owner = self._mine(entry.document)
        known = self._tools.journal.entry(entry.id)
        if known is None:
            return self._noted_anew(entry) if is_owner else Look(entry, Wait(Reason.NOT_OWNER))
        entry = known
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
            case Redate(moment):
                return self._redated(entry, moment)
            case Drop():
                return self._drop(entry, known)

    def _gather(self, entry: Entry, saying: Saying, pause: Pause, *, is_owner: bool) -> Known:
        tools, now = self._tools, self._tools.wall_clock()
        facts = tools.facts.read(
            entry.document,
            entry.database,
            with_dates=entry.due_at > entry.noted_at and saying.word is not Word.DROP_NOW,
        )
        return Known(
            prefix=tools.prefix,
            saying=saying,
            pause=pause,
            now=now,
            dates=facts.dates,
            nodes=facts.nodes,
            is_owner=is_owner,
            document=tools.confirm(entry.document),
            suffixes=facts.suffixes,
            hosts=facts.hosts,
            is_blank=tools.facts.is_blank(entry.database),
            breaker=self._breaker(entry, pause, now),
            is_freed=entry.kind is Kind.DELETION or self._is_freed(entry),
        )

    def _breaker(self, entry: Entry, pause: Pause, now: float) -> Breaker:
        drops = self._drops(pause, now)
        # An earlier look has counted the entry's own drop, when it began it.
        others = drops - 1 if self._is_counted(entry, pause, now) else drops
        return Breaker(max(0, others), self._config().max_drops)

    def _drops(self, pause: Pause, now: float) -> int:
        return self._tools.journal.count_drops(self._since(pause, now), self._until(now), self._config().max_drops + 1)

    def _since(self, pause: Pause, now: float) -> float:
        """Return the moment from which drops count: an operator's `resume` begins a new count.

        A `resume` with a time in the future comes from a wrong clock. It is ignored, because nothing would count until
        then.
        """
        is_past = pause.resumed_at <= now + CLOCKS_AGREE_WITHIN_SECONDS
        return max(now - self._config().per_seconds, pause.resumed_at if is_past else 0.0)

    def _until(self, now: float) -> float:
        """Return the moment up to which drops count. Later drops have their time from a clock that was ahead.

        They would count for years, and no `resume` would help. Smaller differences between clocks hide no drop.
        """
        return now + max(self._config().per_seconds, CLOCKS_AGREE_WITHIN_SECONDS)

    def _is_counted(self, entry: Entry, pause: Pause, now: float) -> bool:
        """Say whether the entry's own drop was begun within the time that counts."""
        begun_at = entry.begun_at or 0.0
        return entry.reservation is not None and self._since(pause, now) <= begun_at <= self._until(now)

    def _is_freed(self, entry: Entry) -> bool | None:
        copies = self._tools.copies.security(entry.database) or ()
        user = user_name(entry.document) or ""
        found = [each.security for each in copies if each.security is not None]
        if is_majority(sum(security.names_user(each, user) for each in found), len(copies)):
            # A majority of the copies names the user, so the other copies cannot change the answer.
            return False
        return security.is_freed(found, len(found), user) if found and len(found) == len(copies) else None

    # Ends

    def _end(self, entry: Entry, ending: Ending, known: Known) -> Look:
        more: tuple[Entry, ...] = ()
        if ending is Ending.SUPERSEDED and known.document.rev is not None and entry.kind is Kind.DELETION:
            # The new entry is written before the old one ends, so that there is an entry at every moment.
            anew = msgspec.structs.replace(entry.waiting(), revision=revision_key(known.document.rev))
            more = (note_deletion(self._tools.journal, self._dated(anew)),)
        if ending is Ending.RELEASED and known.document.state in (DocumentState.DELETED, DocumentState.MISSING):
            # The user was deleted again. The permission must not let in a later user of that name.
            return self._ended(entry, Ending.SUPERSEDED, known.saying)
        if ending is Ending.RELEASED:
            # A worker that serves the user reads the permission, lets the user in, and ends the entry.
            self._tools.look_again(entry.document)
            let_in = known.is_freed is False
            return self._ended(entry, ending, known.saying) if let_in else Look(entry, Wait(Reason.HELD))
        look = self._ended(entry, ending, known.saying)
        if ending in (Ending.RETURNED, Ending.SUPERSEDED) or entry.state is State.DROPPING:
            # The user may have signed up again since the document was read, and then needs a database.
            self._tools.look_again(entry.document)
        return msgspec.structs.replace(look, more=more)

    def _ended(self, entry: Entry, ending: Ending, saying: Saying) -> Look:
        now = self._tools.wall_clock()
        if entry.reservation is not None and ending is not Ending.DROPPED and ending is not Ending.GONE:
            self._tools.journal.unreserve(entry.reservation)
        ended = self._tools.journal.change(entry.id, lambda known: (known or entry).ended(ending, now))
        if ending is Ending.GONE and entry.state is State.DROPPING:
            # The request to drop the database may have been sent, but nobody has seen an answer.
            _write_down(entry, saying, entry.revision, incomplete="answer_lost")
        else:
            log.info(
                "deletion ended without a drop",
                database=entry.database,
                document=entry.document,
                ending=ending.value,
                word=saying.word.value,
            )
        return Look(ended or entry.ended(ending, now))

    def _noted_anew(self, entry: Entry) -> Look:
        """Write an entry down again that the journal has lost. The operator's words on it may be lost too."""
        noted = self._dated(entry.waiting())
        journal = self._tools.journal
        noted = note_deletion(journal, noted) if noted.kind is Kind.DELETION else journal.note(noted)
        log.warning("the journal has lost a deletion; it waits anew", database=noted.database, due_at=noted.due_at)
        return Look(noted, Wait(Reason.NOT_DUE, noted.due_at))

    def _dated(self, entry: Entry) -> Entry:
        now = noting_time(self._tools, self._config())
        return msgspec.structs.replace(entry, noted_at=now, due_at=now + self._config().grace_period)

    def _redated(self, entry: Entry, moment: float) -> Look:
        """Begin the grace period anew at a moment: noted by a clock that was ahead, it could end years too late."""

        def dated(found: Entry | None) -> Entry | None:
            if _is_over(found):
                return None
            return msgspec.structs.replace(
                found or entry, noted_at=moment, due_at=moment + entry.due_at - entry.noted_at
            )

        found = self._tools.journal.change(entry.id, dated) or entry
        log.info("deletion was noted by a clock that was ahead", database=entry.database, due_at=found.due_at)
        return Look(found, Wait(Reason.NOT_DUE, found.due_at))

    # Dropping

    def _drop(self, entry: Entry, known: Known) -> Look:
        tools = self._tools
        begun = tools.journal.change(
            entry.id, lambda found: None if _is_over(found) else self._begun(found or entry, known)
        )
        if begun is None or not begun.is_open or begun.reservation is None:
            return Look(begun or entry, Wait(Reason.NOT_OWNER))
        if not known.is_blank:
            tools.journal.reserve(begun.reservation, begun)
            # The drops are counted again, now with this one. So several instances that begin at once do not exceed the
            # limit together.
            if not known.saying.resumed and self._drops(known.pause, known.now) > self._config().max_drops:
                return self._trip(begun)
        with self.under_way.dropping(entry.document):
            is_still_so = self._is_still_so(begun, known)
            removal = tools.client.drop_database(entry.database) if is_still_so else None
        if removal is None:
            return Look(self._put_back(begun), Wait(Reason.DOCUMENT_UNCLEAR))
        if removal is Removal.ACCEPTED:
            return Look(begun, Wait(Reason.HOSTS_AWAY))
        if removal is Removal.ABSENT:
            # This is not a drop of ours. At the next look two nodes say whether the database is gone.
            return Look(begun, Wait(Reason.DATABASE_UNCLEAR))
        return self._dropped(begun, known)

    def _begun(self, entry: Entry, known: Known) -> Entry:
        # A failed drop from long ago must not keep its old reservation, because old reservations no longer count.
        is_counted = self._is_counted(entry, known.pause, known.now)
        return (entry if is_counted else entry.waiting()).begun(known.now)

    def _is_still_so(self, entry: Entry, known: Known) -> bool:
        """Ask for everything once more, directly before the drop. Another instance may own the user by then, too."""
        verdict = self._tools.confirm(entry.document)
        before = known.document
        if (verdict.state, verdict.rev, verdict.behind) != (before.state, before.rev, before.behind):
            return False
        if self._tools.journal.saying(entry.id) != known.saying or self._tools.journal.pause() != known.pause:
            return False
        return self._tools.facts.suffix(entry.database) in known.suffixes and self._mine(entry.document)

    def _put_back(self, entry: Entry) -> Entry:
        if entry.reservation is not None:
            self._tools.journal.unreserve(entry.reservation)
        return self._tools.journal.change(entry.id, _waiting_again) or entry

    def _trip(self, entry: Entry) -> Look:
        """Pause all drops of the cluster, and record the reason."""
        now = self._tools.wall_clock()
        self._tools.journal.set_pause(Pause(paused=True, why=PauseReason.BREAKER, at=now, instance=self._instance))
        return Look(self._put_back(entry), Wait(Reason.BREAKER), tripped=True)

    def _dropped(self, entry: Entry, known: Known) -> Look:
        now = self._tools.wall_clock()
        _write_down(entry, known.saying, known.document.rev)
        after = self._tools.confirm(entry.document)
        if after.state is not DocumentState.DELETED:
            self._tools.look_again(entry.document)
        ended = self._tools.journal.change(entry.id, lambda found: (found or entry).ended(Ending.DROPPED, now))
        return Look(ended or entry.ended(Ending.DROPPED, now), dropped=True)


def _write_down(entry: Entry, saying: Saying, revision: str | None, **details: str) -> None:
    log.info(
        "audit",
        action="drop",
        database=entry.database,
        document=entry.document,
        why=_why(entry, saying),
        sequence=entry.sequence,
        revision=revision,
        **details,
    )


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
