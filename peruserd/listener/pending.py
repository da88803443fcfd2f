"""The entries of the journal that a listener has at hand: when each is to be looked at, and what was said of it.

Bounded: what is due last is left to the journal and counted. Any thread may call; nothing here makes a request.
"""

import heapq
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from peruserd.core.common.backoff import Backoff
from peruserd.core.deletions.drop import CLOCKS_AGREE_WITHIN_SECONDS, Reason, Wait, forbids
from peruserd.core.deletions.journal import Entry, Kind, Pause, Saying, Standing

# More entries than this are left to the journal, and counted; each takes half a kilobyte here and as much on disk.
MAX_KEPT: Final = 50_000

# Entries held by the operator or the breaker are looked at when something is said, and now and then.
_HELD_SECONDS: Final = 600.0

_BACKOFF: Final = Backoff(initial_seconds=2.0, max_seconds=600.0)

# Two reasons to wait hardly ever end by themselves: an authentication database that was made anew knows nothing of a
# user, and a user who came back waits for a word. A word is told at once, and anybody can come back under many names.
_RARELY_SECONDS: Final = 6 * 3_600.0

_PATIENT: Final = frozenset({Reason.HELD, Reason.PAUSED, Reason.BREAKER, Reason.PAUSE_UNREADABLE})


class Item:
    """One entry at hand. `saying` is the operator's word, and None where somebody has spoken and it was not read yet.

    `look_at` is when to look next, by the wall clock. `closely` asks for a look whatever the date and the words say.
    `turn` grows whenever something happens to it, so that an earlier look does not undo it.
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
        """Say whether it is about a user who came back."""
        return self.entry.kind is Kind.RETURN

    def hasten(self) -> None:
        """Let it be looked at in the next round."""
        self.look_at, self.failures = 0.0, 0
        self.turn += 1

    def forbidden(self, pause: Pause, now: float) -> Wait | None:
        """Say why it need not be looked at."""
        if self.closely or self.saying is None:
            return None
        return forbids(self.entry, self.saying, pause, now)


class Kept(Protocol):
    """The disk of this machine, as far as it keeps entries."""

    def deletions(self) -> list[Entry]:
        """Return what was kept."""

    def keep_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep entries, or what has become of them; raises StoreError."""

    def replace_deletions(self, entries: Iterable[Entry]) -> None:
        """Keep these entries and no others; raises StoreError."""

    def forget_deletions(self, ids: Iterable[str]) -> None:
        """Keep these no more; raises StoreError."""


class Pending:
    """All of them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._lock = threading.Lock()
        self._items = {each.id: Item(each) for each in entries if each.is_open}
        # How many entries each document has here: asked for every user that is served.
        self._documents = Counter(each.entry.document for each in self._items.values())
        self._uncounted = 0
        # When it was asked last what is due.
        self._asked_at = 0.0

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._items

    @property
    def uncounted(self) -> int:
        """Return how many are left to the journal."""
        return self._uncounted

    def standing(self) -> Standing:
        """Return how they stand."""
        with self._lock:
            entries = [item.entry for item in self._items.values()]
            uncounted = self._uncounted
        waiting = [each for each in entries if each.kind is Kind.DELETION]
        return Standing(
            waiting=len(waiting),
            held=len(entries) - len(waiting),
            uncounted=uncounted,
            oldest_due=min((each.due_at for each in waiting), default=None),
        )

    # Changes

    def put(self, entry: Entry) -> bool:
        """Have an entry at hand, to be looked at in the next round; False, counted, where there are too many."""
        with self._lock:
            if entry.id not in self._items and len(self._items) >= MAX_KEPT:
                self._uncounted += 1
                return False
            item = self._placed(entry)
            item.hasten()
            return True

    def replace(self, entries: Iterable[Entry], sayings: dict[str, Saying]) -> list[Entry]:
        """Have at hand what the journal has, those due first before all others; return them."""
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
            # Entries that were noted while the journal was read are not among those read.
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
        """Have an entry at hand no more."""
        with self._lock:
            self._taken_out(entry_id)

    def remove_unless(self, mine: Callable[[str], bool]) -> list[str]:
        """Let go of every entry whose document is not `mine`; return their ids."""
        with self._lock:
            lost = [name for name, item in self._items.items() if not mine(item.entry.document)]
            for name in lost:
                self._taken_out(name)
        return lost

    # News

    def spoken_of(self, entry_ids: frozenset[str]) -> list[str]:
        """Let the entries be looked at of which somebody has spoken; return the ids without an entry at hand."""
        with self._lock:
            for name in entry_ids & self._items.keys():
                self._items[name].saying = None
                self._items[name].hasten()
            return [each for each in entry_ids if each not in self._items]

    def pause_changed(self) -> None:
        """Let those be looked at that wait for a word."""
        with self._lock:
            for item in self._items.values():
                if item.reason in _PATIENT:
                    item.hasten()

    def knows(self, document_id: str) -> bool:
        """Say whether anything may wait for a user: also where there are more entries than can be at hand."""
        # Without the lock: it is one look, made for every user.
        return document_id in self._documents or bool(self._uncounted)

    def served(self, document_id: str) -> bool:
        """Let what waits for a user be looked at closely, because the user is there; say whether there is anything."""
        # Without the lock: it is one look, made for every user that is served, and an entry noted later is looked at.
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
        """Return those whose time has come, in the order of their dates, and those that failed last.

        Where the clock was set back, all are due: it can have been years ahead when they were postponed.
        """
        with self._lock:
            if now < self._asked_at - CLOCKS_AGREE_WITHIN_SECONDS:
                for item in self._items.values():
                    item.look_at = 0.0
            self._asked_at = now
            due = [item for item in self._items.values() if item.look_at <= now]
        return sorted(due, key=lambda item: (item.failures, item.entry.due_at, item.entry.id))

    def next_look(self) -> float | None:
        """Return when the next one's time comes; None while there is none."""
        with self._lock:
            return min((item.look_at for item in self._items.values()), default=None)

    def seen(self, item: Item, turn: int, entry: Entry, saying: Saying) -> None:
        """Take in what a look has shown that began at this turn."""
        with self._lock:
            item.entry = entry
            if item.turn == turn:
                item.saying, item.closely = saying, False

    def postpone(self, item: Item, turn: int, wait: Wait | None, now: float) -> None:
        """Look again later, by the reason to wait, or after a failure; unless something has happened since the turn."""
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
                item.look_at = now + _BACKOFF.delay(item.failures, random.random())  # noqa: S311 - spreads tries

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
        # Where somebody has spoken since the sayings were read, they are older than that word.
        if item.saying is not None and saying != item.saying:
            item.saying = saying
            item.hasten()
