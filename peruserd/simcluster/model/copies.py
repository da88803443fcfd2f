"""One copy of one range: its documents, its private sequence, its local documents and its security object.

Pure: no clock and no socket. A reader that waits for a change leaves a watcher, a function called once at the next
change or when the copy goes. Sequences are the copy's own: another copy of the range numbers the same changes as they
reach it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from peruserd.core.ownership.ranges import HASH_SPACE, Range
from peruserd.simcluster.model import ids
from peruserd.simcluster.model.revisions import Leaves, join

DEFAULT_SECURITY: Final[dict[str, Any]] = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
DEFAULT_REVS_LIMIT: Final = 1000

# The log of changes is rewritten when more than half of it, and more than this, is superseded.
_COMPACT_ABOVE: Final = 256

Row = tuple[int, str, Leaves]


class LocalDocument(msgspec.Struct, frozen=True):
    """A local document: no history, only how often it was written in a row with its revision named."""

    writes: int
    body: dict[str, Any]

    @property
    def rev(self) -> str:
        """The revision as CouchDB writes it."""
        return f"0-{self.writes}"


class Snapshot(msgspec.Struct, frozen=True):
    """The content of a copy at one moment, as a backup of its file has it."""

    docs: dict[str, tuple[int, Leaves]]
    local: dict[str, LocalDocument]
    security: Any
    update_seq: int


class ShardCopy:
    """One node's copy of one range of one database."""

    __slots__ = (
        "_dead",
        "_log_ids",
        "_log_seqs",
        "_watchers",
        "deleted_count",
        "docs",
        "gone",
        "lineage",
        "local",
        "node",
        "path",
        "range",
        "revs_limit",
        "security",
        "started",
        "update_seq",
        "uuid",
    )

    def __init__(self, node: str, path: str, covered: Range, uuid: str, started: int) -> None:
        self.node = node
        self.path = path
        self.range = covered
        self.uuid = uuid
        # Copies whose sequence numbers this one goes on with: what it was split from.
        self.lineage: tuple[str, ...] = ()
        self.started = started
        self.update_seq = 0
        self.deleted_count = 0
        self.docs: dict[str, tuple[int, Leaves]] = {}
        self.local: dict[str, LocalDocument] = {}
        self.security: Any = DEFAULT_SECURITY
        self.revs_limit = DEFAULT_REVS_LIMIT
        self.gone = False
        self._log_seqs: list[int] = []
        self._log_ids: list[str] = []
        self._dead = 0
        # None without watchers, because most of a hundred thousand copies never have one.
        self._watchers: set[Callable[[], None]] | None = None

    @property
    def doc_count(self) -> int:
        """The number of documents that are there and not deleted."""
        return len(self.docs) - self.deleted_count

    def leaves(self, document_id: str) -> Leaves | None:
        """Return a document's leaves, or None where this copy never had it."""
        entry = self.docs.get(document_id)
        return entry[1] if entry else None

    def merge(self, document_id: str, theirs: Leaves) -> bool:
        """Merge leaves from another copy or an edit. Say whether they changed this copy."""
        entry = self.docs.get(document_id)
        if entry is None:
            self._put(document_id, theirs, None)
            return True
        joined = join(entry[1], theirs)
        if joined is entry[1]:
            return False
        self._put(document_id, joined, entry[1])
        return True

    def put(self, document_id: str, leaves: Leaves) -> None:
        """Replace the leaves of a document."""
        entry = self.docs.get(document_id)
        self._put(document_id, leaves, entry[1] if entry else None)

    def forget(self, document_id: str) -> bool:
        """Lose a document as if it had never been here; say whether it was. No row tells of it."""
        entry = self.docs.pop(document_id, None)
        if entry is None:
            return False
        self.deleted_count -= entry[1][0].deleted
        self._dead += 1
        self._compact()
        return True

    def snapshot(self) -> Snapshot:
        """Return the present content of this copy."""
        return Snapshot(dict(self.docs), dict(self.local), self.security, self.update_seq)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to an earlier snapshot, under the same name and uuid. Later changes are lost."""
        self.docs = {}
        self._log_seqs, self._log_ids, self._dead, self.deleted_count = [], [], 0, 0
        for document_id, (seq, leaves) in sorted(snapshot.docs.items(), key=lambda each: each[1][0]):
            self._append(seq, document_id, leaves)
        self.local = dict(snapshot.local)
        self.security = snapshot.security
        self.update_seq = snapshot.update_seq
        self.wake()

    def rows(self, since: int, limit: int) -> list[Row]:
        """Return at most `limit` changes after `since`, oldest first, the newest state of each document only."""
        found: list[Row] = []
        docs, ids, seqs = self.docs, self._log_ids, self._log_seqs
        for index in range(bisect_right(seqs, since), len(seqs)):
            document_id = ids[index]
            seq, leaves = docs[document_id]
            if seq == seqs[index]:
                found.append((seq, document_id, leaves))
                if len(found) >= limit:
                    break
        return found

    def pending(self, since: int) -> int:
        """Return how many changes follow `since`."""
        if self._dead:
            self._compact()
        return len(self._log_seqs) - bisect_right(self._log_seqs, since)

    def set_security(self, security: Any) -> None:
        """Replace the security object. The sequence moves on, but no change is listed."""
        self.security = security
        self.update_seq += 1

    def split_into(self, targets: Iterable[tuple[str, Range, str]]) -> list["ShardCopy"]:
        """Return new copies with this one's documents, divided by range. Sequence numbers stay the same.

        `targets` are the path, range and uuid of each.
        """
        halves = []
        for path, covered, uuid in targets:
            half = ShardCopy(self.node, path, covered, uuid, self.started)
            half.lineage = (self.uuid, *self.lineage)
            half.security = self.security
            half.revs_limit = self.revs_limit
            half.local = {each: body for each, body in self.local.items() if ids.place(each) in covered}
            for seq, document_id, leaves in self.rows(0, len(self.docs)):
                if ids.place(document_id) in covered:
                    half._append(seq, document_id, leaves)
            half.update_seq = self.update_seq
            halves.append(half)
        return halves

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` once, at the next change or when this copy goes."""
        if self._watchers is None:
            self._watchers = set()
        self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Forget a watcher. A watcher that was called already is ignored."""
        if self._watchers:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """Mark the copy as gone for ever, and wake its watchers."""
        self.gone = True
        self.wake()

    def wake(self) -> None:
        """Call the watchers."""
        watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher()

    def _put(self, document_id: str, leaves: Leaves, before: Leaves | None) -> None:
        if before is not None:
            self._dead += 1
            self.deleted_count -= before[0].deleted
            if self._dead > _COMPACT_ABOVE and self._dead * 2 > len(self._log_seqs):
                self._compact()
        self.update_seq += 1
        self._append(self.update_seq, document_id, leaves)
        if self._watchers:
            self.wake()

    def _append(self, seq: int, document_id: str, leaves: Leaves) -> None:
        self.docs[document_id] = (seq, leaves)
        self._log_seqs.append(seq)
        self._log_ids.append(document_id)
        self.deleted_count += leaves[0].deleted

    def _compact(self) -> None:
        docs = self.docs
        log = zip(self._log_seqs, self._log_ids, strict=True)
        alive = [(seq, each) for seq, each in log if each in docs and docs[each][0] == seq]
        self._log_seqs = [seq for seq, _ in alive]
        self._log_ids = [each for _, each in alive]
        self._dead = 0


def cover(copies: Sequence[ShardCopy], begin: int = 0) -> list[ShardCopy] | None:
    """Return copies that hold every place of the hash space from `begin` on once, trying them in the order given."""
    if begin == HASH_SPACE:
        return []
    for copy in copies:
        if copy.range.begin == begin:
            rest = cover(copies, copy.range.end + 1)
            if rest is not None:
                return [copy, *rest]
    return None
