"""The deletions that a listener's instance owns: noted in the journal, kept in memory, looked at when they are due.

The provisioner revokes access at once; only the drop waits here. Each entry is in the journal before anything is done
about it, so losing this memory costs one reading of the journal and nothing else. The thread that looks at entries
survives every failure.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog

from peruserd import threads
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.names import decode_database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, OnReturn
from peruserd.core.configuration.config import DeletionConfig
from peruserd.core.deletions.drop import Reason
from peruserd.core.deletions.journal import DeletionStatus, Entry, Kind, Pause, entry_id, revision_key
from peruserd.core.deletions.lives import is_expected_end
from peruserd.couch.errors import CouchError, InterruptedRequestError, NotFoundError
from peruserd.listener.dropping import Dropper, JournalMissingError, Look, Tools, noting_time
from peruserd.listener.jitter import jitter
from peruserd.listener.noting import note_deletion
from peruserd.listener.pending import Item, Kept, Pending
from peruserd.listener.purging import Purging
from peruserd.listener.returned_users import end_return, note_return
from peruserd.listener.store import StoreError

# Entries looked at in one round: each takes a dozen requests, one after the other, so a round ends within a minute.
_MAX_LOOKED_AT: Final = 50

# A round ends after this many entries without a decision, because hosts are away or requests fail.
_MAX_UNLUCKY: Final = 5
_PAUSE_SECONDS: Final = 15.0
_OF_THE_CLUSTER: Final = frozenset({Reason.HOSTS_AWAY, Reason.CLOCKS, Reason.DOCUMENT_UNCLEAR, Reason.DATABASE_UNCLEAR})

# The longest time without a round. A round normally follows news of another instance or an operator; this is for lost
# news.
_IDLE_SECONDS: Final = 600.0

# How often the whole journal is read again. News of the journal can be lost, and an earlier owner can have written an
# entry.
_READ_AGAIN_SECONDS: Final = 3_600.0

# How soon the journal is read again after a reading that removed as many entries as it may.
_PURGE_AGAIN_SECONDS: Final = 60.0

_BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=60.0)

log = structlog.get_logger(__name__)


class Deletions:
    """The deletions that wait; for any thread.

    `run` is the thread that looks at them, with `tools`. Workers write new ones, with `noting`.
    """

    def __init__(
        self,
        tools: Tools,
        kept: Kept,
        *,
        noting: Tools,
        config: DeletionConfig,
        instance: str,
        mine: Callable[[str], bool],
        on_drop: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._tools = tools
        self._noting = noting
        self._kept = kept
        self.config = config
        self._instance = instance
        self._mine = mine
        self._on_drop = on_drop
        self._on_failure = on_failure
        self._dropper = Dropper(tools, lambda: self.config, instance, mine)
        self._purging = Purging(tools.client, tools.journal, notes_ends=tools.notes_ends)
        self._pending = Pending(each for each in kept.deletions() if self._is_mine(each))
        self._wanted = threading.Event()
        self._usable = False
        self._read_at: float | None = None
        self._stopping = False

    # For the workers

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Write down that a database is to be dropped, before its change is finished; raises CouchError, StoreError.

        Nothing is written where there is no database. The operator may have allowed this user to return. That
        permission ends with this deletion, and does not hold for a later user of the same name.
        """
        if self.config.on_return is OnReturn.HOLD and end_return(self._noting, database):
            self.served(document_id)
        if self.config.policy is not DeletionPolicy.DROP:
            return
        key = revision_key(revision)
        if entry_id(Kind.DELETION, database, key) in self._pending:
            return
        suffix = self._noting.facts.suffix(database)
        if suffix is None:
            return
        now = noting_time(self._noting, self.config)
        noted = Entry(
            document=document_id,
            database=database,
            suffix=suffix,
            revision=key,
            noted_at=now,
            due_at=now + self.config.grace_period,
            sequence=sequence,
            instance=self._instance,
        )
        try:
            self._take(note_deletion(self._noting.journal, noted))
        except NotFoundError as error:
            raise JournalMissingError(f"the deletion cannot be noted: {error}") from error

    def admits(self, document_id: str, database: str) -> bool:
        """Say whether a user may return to a database without an owner; raises CouchError, StoreError.

        Where the operator has not allowed it, the return is noted and waits for the operator.
        """
        entry, is_released = note_return(self._noting, document_id, database, self._instance)
        if entry is not None:
            self._take(entry)
        return is_released

    def knows_end(self, database: str, life: str) -> bool:
        """Say whether the end of this life of a database is no loss (see `core.deletions.lives`); raises CouchError."""
        journal = self._noting.journal
        try:
            entries = (each for kind in Kind for each in journal.entries(kind, database))
            return is_expected_end(life, journal.end(database), entries)
        except NotFoundError:
            # Where there is no journal, nothing was ever dropped.
            return False

    def note_end(self, database: str, life: str) -> None:
        """Write down that the end of this life of a database is no loss; raises CouchError."""
        try:
            self._noting.journal.note_end(database, life)
        except NotFoundError as error:
            raise JournalMissingError(f"the end of the database cannot be noted: {error}") from error

    def knows(self, document_id: str) -> bool:
        """Say whether the journal may know of a user who was deleted."""
        return self._pending.knows(document_id)

    def let_drop_end(self, document_id: str) -> None:
        """Wait while the user's database is being dropped."""
        self._dropper.under_way.wait(document_id)

    def served(self, document_id: str) -> None:
        """Note that a user exists and has the database: waiting entries for it are looked at soon."""
        if self._pending.served(document_id):
            self._wanted.set()

    # For the main thread

    def take_news(self, spoken_of: frozenset[str], *, pause_changed: bool, usable: bool) -> None:
        """Take in which entries have a new word of somebody, and whether the journal can be read and trusted now."""
        self._usable = usable
        unknown = self._pending.spoken_of(spoken_of)
        if pause_changed:
            self._pending.pause_changed()
        if any(self._is_ours(each) for each in unknown):
            self._read_at = None
        self._wanted.set()

    def _is_ours(self, entry: str) -> bool:
        user = decode_database_name(self._tools.prefix, entry.partition(":")[2].rpartition(":")[0])
        return user is not None and self._mine(user_document_id(user))

    def owners_changed(self) -> None:
        """Forget the entries of other owners (`round` does so on disk), and read the journal for newly owned ones."""
        self._pending.remove_unless(self._mine)
        self._read_at = None
        self._wanted.set()

    def status(self) -> DeletionStatus:
        """Return how the deletions stand."""
        return self._pending.status()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping = True
        self._wanted.set()

    # The thread that looks

    def run(self) -> None:
        """Look whenever something is due, until stopped; raises only StoreError, because nothing can be kept then."""
        failures = 0
        last_kind: str | None = None
        while self.config.uses_journal and not self._stopping:
            try:
                wait = self.round()
                failures, last_kind = 0, None
            except StoreError:
                raise
            except InterruptedRequestError:
                return
            except CouchError as error:
                failures += 1
                if error.kind != last_kind:
                    log.warning("deletions cannot be looked at; trying again", kind=error.kind, error=str(error))
                last_kind = error.kind
                self._on_failure(error.kind)
                wait = _BACKOFF.delay(failures, jitter())
            except Exception:
                failures += 1
                log.exception("deletions could not be looked at")
                self._on_failure("unforeseen")
                wait = _BACKOFF.bound(failures)
            threads.pause(self._wanted, wait)
            self._wanted.clear()

    def round(self) -> float:
        """Look at the entries that are due, up to the limit of a round; return the seconds until the next round."""
        self._kept.forget_deletions(self._pending.take_lost())
        if not self._usable:
            return _IDLE_SECONDS  # it is unknown which instances live, and whether others can write to the journal
        self._read_journal()
        now = self._tools.wall_clock()
        due = self._without_forbidden(self._pending.due(now), Pause(), now)
        if due:
            pause = self._tools.journal.pause_or_unreadable()
            unlucky = 0
            for item in self._without_forbidden(due, pause, now)[:_MAX_LOOKED_AT]:
                unlucky += not self._look(item, pause)
                if unlucky >= _MAX_UNLUCKY:
                    return _PAUSE_SECONDS
        next_look = self._pending.next_look()
        rest = _IDLE_SECONDS if next_look is None else next_look - self._tools.wall_clock()
        return max(0.0, min(rest, _IDLE_SECONDS))

    def _without_forbidden(self, items: Iterable[Item], pause: Pause, now: float) -> list[Item]:
        left = []
        for item in items:
            turn, wait = item.turn, item.forbidden(pause, now)
            if wait is None:
                left.append(item)
            else:
                self._pending.postpone(item, turn, wait, now)
        return left

    def _look(self, item: Item, pause: Pause) -> bool:
        """Look at one entry; say whether the state of the cluster allowed a decision."""
        if self._stopping or not self._usable:
            return True
        turn, before = item.turn, item.entry
        try:
            look = self._dropper.look(before, pause, closely=item.closely)
        except InterruptedRequestError:
            raise
        except CouchError as error:
            log.info("deletion cannot be decided now", database=before.database, kind=error.kind, error=str(error))
            return self._failed(item, turn, error.kind)
        except Exception:
            log.exception("deletion cannot be decided", database=before.database)
            return self._failed(item, turn, "unforeseen")
        self._take_in(item, turn, before, look)
        return look.wait is None or look.wait.reason not in _OF_THE_CLUSTER

    def _take_in(self, item: Item, turn: int, before: Entry, look: Look) -> None:
        if look.dropped:
            self._on_drop()
        if look.tripped:
            self._say_why_all_wait()
        for each in look.more:
            self._take(each)
        if not look.entry.is_open:
            self._forget(look.entry)
            return
        if look.entry != before:
            self._kept.keep_deletions([look.entry])
        self._pending.seen(item, turn, look.entry, look.saying)
        if look.wait is not None:
            log.info("deletion waits", database=before.database, reason=look.wait.reason.value, until=look.wait.until)
            self._pending.postpone(item, turn, look.wait, self._tools.wall_clock())

    def _failed(self, item: Item, turn: int, kind: str) -> bool:
        """Postpone a failed entry, so that it delays no other; the cluster may be the cause."""
        self._on_failure(kind)
        self._pending.postpone(item, turn, None, self._tools.wall_clock())
        return False

    def _say_why_all_wait(self) -> None:
        status = self.status()
        now = self._tools.wall_clock()
        log.error(
            "too many databases were to be deleted: all deletions wait for `peruserd deletions resume`",
            max_drops=self.config.max_drops,
            per_seconds=self.config.per_seconds,
            waiting_here=status.waiting,
            oldest_overdue_seconds=None if status.oldest_due is None else round(now - status.oldest_due),
        )

    # Entries at hand

    def _read_journal(self) -> None:
        now = time.monotonic()
        if self._read_at is not None and now - self._read_at < _READ_AGAIN_SECONDS:
            return
        # The time is taken before the reading, because the reading may miss a change that is made meanwhile.
        self._read_at = now
        try:
            sayings = self._tools.journal.sayings()
            self._kept.replace_deletions(self._pending.replace(self._open_entries(), sayings))
        except BaseException:
            self._read_at = None
            raise
        self._tools.journal.forget_drops(self._tools.wall_clock() - 2 * self.config.per_seconds)
        if self._purging.purge():
            self._read_at = time.monotonic() - _READ_AGAIN_SECONDS + _PURGE_AGAIN_SECONDS

    def _open_entries(self) -> Iterator[Entry]:
        """Yield the open entries of this instance, and offer its ended ones for removal."""
        now = self._tools.wall_clock()
        for kind in Kind:
            for entry in self._tools.journal.entries(kind):
                if entry.is_open and self._is_mine(entry):
                    yield entry
                elif not entry.is_open and self._mine(entry.document):
                    self._purging.offer(entry, now)

    def _is_wanted(self, entry: Entry) -> bool:
        """Say whether this configuration does anything about an entry: a policy that keeps databases drops none."""
        return entry.kind is Kind.RETURN or self.config.policy is DeletionPolicy.DROP

    def _is_mine(self, entry: Entry) -> bool:
        return self._is_wanted(entry) and self._mine(entry.document)

    def _take(self, entry: Entry) -> None:
        # Another instance can own the document by now. It finds the entry in the journal.
        if entry.is_open and self._is_mine(entry) and self._pending.put(entry):
            self._kept.keep_deletions([entry])
            self._wanted.set()

    def _forget(self, entry: Entry) -> None:
        self._pending.remove(entry.id)
        self._kept.forget_deletions([entry.id])
        if self._pending.uncounted:
            self._read_at = None
