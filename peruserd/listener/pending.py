"""The journal's entries that a listener keeps in memory: when to look at each, and the operator's word on it.

The number of entries is bounded. The entries due last stay only in the journal, and are counted. Any thread may call;
nothing here makes a request.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from peruserd.core.common.backoff import Backoff
from peruserd.core.deletions.drop import CLOCKS_AGREE_WITHIN_SECONDS, Reason, Wait, forbids
from peruserd.core.deletions.journal import DeletionStatus, Entry, Kind, Pause, Saying
from peruserd.listener.jitter import jitter

# The largest number of entries in memory; further ones stay in the journal and are counted. Each takes half a kilobyte
# here and as much on disk.
MAX_KEPT: Final = 50_000

# Entries that wait for the operator or the breaker are looked at when there is a new word, and this often.
_HELD_SECONDS: Final = 600.0

_BACKOFF: Final = Backoff(initial_seconds=2.0, max_seconds=600.0)

# Two reasons to wait hardly ever end by themselves. An authentication database that was made anew does not know the
# user, or a returned user waits for the operator. The operator's word arrives at once anyway. And anybody can return
# under many names, so looks at them must be rare.
_RARELY_SECONDS: Final = 6 * 3_600.0

_PATIENT: Final = frozenset({Reason.HELD, Reason.PAUSED, Reason.BREAKER, Reason.PAUSE_UNREADABLE})


class Item:
    """One entry in memory. `saying` is the operator's word, and None where there is a new word that was not read yet.

    - `look_at` is the time of the next look, by the wall clock.
    - `closely` asks for a look whatever the date and the words say.
    - `turn` grows with every event, so that a look that began before the event does not undo it.
    """

    __slots__ = ("closely", "entry", "failures", "look_at", "reason", "saying", "turn")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.saying: Saying | None = Saying()
        self.look_at = 0.0
        self.failures = 0
        self.closely = False
        self.reason: Reason | None = None
        self.turn = 0

    @property
    def is_return(self) -> bool:
        """Say whether the entry is about a user who came back."""
        return self.entry.kind is Kind.RETURN

    def hasten(self) -> None:
        """Look at the entry in the next round."""
        self.look_at, self.failures = 0.0, 0
        self.turn += 1

    def forbidden(self, pause: Pause, now: float) -> Wait | None:
        """Return the reason why no look is needed, None where one is."""
        if self.closely or self.saying is None:
            return None
        return forbids(self.entry, self.saying, pause, now)


class Kept(Protocol):
    """The part of the state on disk that keeps entries."""

    def deletions(self) -> list[Entry]:
        """Return the kept entries."""

    def keep_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep new entries, and replace older versions of them; raises StoreError."""

    def replace_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep these entries and no others; raises StoreError."""

    def forget_deletions(self, ids: Iterable[str]) -> None:
        """Remove these entries; raises StoreError."""


class Pending:
    """The entries in memory, and the number of those left in the journal."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._lock = threading.Lock()
        self._items = {each.id: Item(each) for each in entries if each.is_open}
        # The number of entries of each document, read for every user that is served.
        self._documents = Counter(each.entry.document for each in self._items.values())
        self._uncounted = 0
        self._lost: list[str] = []
        # The time of the last call of `due`, to notice a clock that was set back.
        self._asked_at = 0.0

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._items

    @property
    def uncounted(self) -> int:
        """Return the number of entries that stay in the journal only."""
        return self._uncounted

    def status(self) -> DeletionStatus:
        """Return the numbers for the report."""
        with self._lock:
            entries = [item.entry for item in self._items.values()]
            uncounted = self._uncounted
        waiting = [each for each in entries if each.kind is Kind.DELETION]
        return DeletionStatus(
            waiting=len(waiting),
            held=len(entries) - len(waiting),
            uncounted=uncounted,
            oldest_due=min((each.due_at for each in waiting), default=None),
        )

    # Changes

    def put(self, entry: Entry) -> bool:
        """Add an entry, to be looked at in the next round; count it and return False where there are too many."""
        with self._lock:
            if entry.id not in self._items and len(self._items) >= MAX_KEPT:
                self._uncounted += 1
                return False
            item = self._placed(entry)
            item.hasten()
            return True

    def replace(self, entries: Iterable[Entry], sayings: dict[str, Saying]) -> list[Entry]:
        """Replace the entries by those of the journal, preferring those due first; return them."""
        soonest: list[tuple[float, str, Entry]] = []
        beyond = 0
        for entry in entries:
            ranked = (-entry.due_at, entry.id, entry)
            if len(soonest) < MAX_KEPT:
                heapq.heappush(soonest, ranked)
            else:
                heapq.heappushpop(soonest, ranked)
                beyond += 1
        with self._lock:
            # Entries that were noted while the journal was read may be missing in what was read.
            names = {name for _, name, _ in soonest}
            spare = MAX_KEPT - len(names)
            for name in [each for each in self._items if each not in names]:
                spare -= 1
                if spare < 0:
                    self._taken_out(name)
                    beyond += 1
            for _, name, entry in soonest:
                self._spoken(self._placed(entry), sayings.get(name, Saying()))
            self._uncounted = beyond
            return [item.entry for item in self._items.values()]

    def remove(self, entry_id: str) -> None:
        """Remove an entry."""
        with self._lock:
            self._taken_out(entry_id)

    def remove_unless(self, mine: Callable[[str], bool]) -> None:
        """Remove every entry whose document is not `mine`; `take_lost` returns their ids."""
        with self._lock:
            lost = [name for name, item in self._items.items() if not mine(item.entry.document)]
            for name in lost:
                self._taken_out(name)
            self._lost += lost

    def take_lost(self) -> list[str]:
        """Return the ids that `remove_unless` has removed since the last call, without those that came back."""
        with self._lock:
            lost, self._lost = self._lost, []
            return [name for name in lost if name not in self._items]

    # News

    def spoken_of(self, entry_ids: frozenset[str]) -> list[str]:
        """Look at the entries with a new word in the next round; return the ids without an entry in memory."""
        with self._lock:
            for name in entry_ids & self._items.keys():
                self._items[name].saying = None
                self._items[name].hasten()
            return [each for each in entry_ids if each not in self._items]

    def pause_changed(self) -> None:
        """Look at the entries that wait for the operator in the next round."""
        with self._lock:
            for item in self._items.values():
                if item.reason in _PATIENT:
                    item.hasten()

    def knows(self, document_id: str) -> bool:
        """Say whether an entry may exist for a user; always True while some entries are in the journal only."""
        # The lock is not taken for this single read, because it is made for every user.
        return document_id in self._documents or bool(self._uncounted)

    def served(self, document_id: str) -> bool:
        """Look closely at the entries of a user, because the user exists; say whether there are any."""
        # The lock is not taken for this single read, because it is made for every user that is served. An entry noted
        # later gets a look of its own.
        if document_id not in self._documents:
            return False
        with self._lock:
            for item in self._items.values():
                if item.entry.document == document_id:
                    item.closely = True
                    item.hasten()
        return True

    # Looks

    def due(self, now: float) -> list[Item]:
        """Return the entries whose time has come, in the order of their dates; entries that failed come last.

        After the clock was set back all entries are due, because it can have been years ahead when they were postponed.
        """
        with self._lock:
            if now < self._asked_at - CLOCKS_AGREE_WITHIN_SECONDS:
                for item in self._items.values():
                    item.look_at = 0.0
            self._asked_at = now
            due = [item for item in self._items.values() if item.look_at <= now]
        return sorted(due, key=lambda item: (item.failures, item.entry.due_at, item.entry.id))

    def next_look(self) -> float | None:
        """Return the time of the next look; None without entries."""
        with self._lock:
            return min((item.look_at for item in self._items.values()), default=None)

    def seen(self, item: Item, turn: int, entry: Entry, saying: Saying) -> None:
        """Take in the result of a look that began at this turn."""
        with self._lock:
            item.entry = entry
            if item.turn == turn:
                item.saying, item.closely = saying, False

    def postpone(self, item: Item, turn: int, wait: Wait | None, now: float) -> None:
        """Look again later, depending on the reason to wait; skip this if something has happened since the turn."""
        with self._lock:
            item.reason = None if wait is None else wait.reason
            if item.turn != turn:
                return
            if wait is not None and wait.until is not None:
                item.failures, item.look_at = 0, wait.until
            elif item.reason is Reason.DOCUMENT_MISSING or (item.reason is Reason.HELD and item.is_return):
                item.failures, item.look_at = 0, now + _RARELY_SECONDS
            elif item.reason in _PATIENT:
                item.failures, item.look_at = 0, now + _HELD_SECONDS
            else:
                item.failures += 1
                item.look_at = now + _BACKOFF.delay(item.failures, jitter())

    # Inside, with the lock held

    def _placed(self, entry: Entry) -> Item:
        item = self._items.get(entry.id)
        if item is None:
            item = self._items[entry.id] = Item(entry)
            self._documents[entry.document] += 1
        item.entry = entry
        return item

    def _taken_out(self, name: str) -> None:
        item = self._items.pop(name, None)
        if item is None:
            return
        self._documents[item.entry.document] -= 1
        if not self._documents[item.entry.document]:
            del self._documents[item.entry.document]

    def _spoken(self, item: Item, saying: Saying) -> None:
        # A word that came after the sayings were read is newer than they are.
        if item.saying is not None and saying != item.saying:
            item.saying = saying
            item.hasten()
