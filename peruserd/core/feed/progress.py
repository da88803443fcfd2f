"""The progress of a listener: how far it has read, what it may skip, and what it must read again.

A listener reads its copy in two ways. It reads *live* from some sequence on. If needed, a *scan* reads from the start
to that sequence, for documents that the instance owns now but did not own all along.

Invariant of `SavedProgress`, for every change up to `checkpoint` of a document that the instance owns now:

- A document is *covered* if the instance owned it under each ownership in `covered`, and there is at least one. A
  change of a covered document is finished, or its user is safely in quarantine, or a scan of everything is `owed`.
- A change of any other document may also still be ahead of the saved scan. The scan's sweep over security objects has
  not passed the document's row then.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.feed.rows import Row, Sequence, is_before
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.users.quarantine import Quarantined

# Past this many changes of ownership during one scan, remembering them costs more than reading everything again.
_MAX_HISTORY: Final = 8

START: Final[Sequence] = 0
"""The sequence before every change. Shard copies and clustered feeds both accept it."""


class Sweep(StrEnum):
    """The sweeps of a scan, in their order. Missing databases come first, because their users have nothing."""

    DATABASES = "databases"  # to create missing databases
    SECURITY = "security"  # to look at every security object, by a clustered read
    COPIES = "copies"  # to compare the copies of every security object


class Scan(msgspec.Struct, frozen=True):
    """A scan under way: the sweep is finished up to `position`, and ends at `until`.

    A `careful` scan believes no row, and asks each copy of the document and of the security object. So it needs no
    sweep to compare copies. A scan of `names` only looks for users whose database is missing or was created again.
    `known` says that every user in this scan was served before, as far as a clustered read shows.
    """

    until: Sequence
    position: Sequence = START
    sweep: Sweep = Sweep.DATABASES
    careful: bool = False
    names: bool = False
    known: bool = False

    @property
    def is_awaited(self) -> bool:
        """Say whether users who were never served may wait for this scan."""
        return not self.known and self.sweep is not Sweep.COPIES


class SavedProgress(msgspec.Struct, frozen=True):
    """The saved progress of one copy, identified by its `uuid`.

    - `current`: the ownership in force.
    - `covered`: the checkpoint covers the documents that the instance owned under all of these. If it is empty, the
      checkpoint covers no document yet.
    - `scan`: the scan under way.
    - `owed`: some users need a look that only a scan of everything will give them. They failed and found no room in
      quarantine, or they were looked at while no majority of the nodes was connected.
    - `names_owed`: names are to be compared, because rows of the list of databases were missed.
    - `last_row`: the newest row at or before the checkpoint. It proves the checkpoint together with some `earlier`
      rows, oldest first. A copy without these rows has another history.
    - `digest`: stands for the configuration that databases depend on, see `core.cluster.agreement`.
    - `request`: the last request to look at everybody for which a scan was begun.
    """

    uuid: str
    checkpoint: Sequence
    current: Ownership
    covered: tuple[Ownership, ...] = msgspec.field(default=(), name="settled")
    scan: Scan | None = None
    owed: bool = False
    last_row: Row | None = None
    digest: str = ""
    names_owed: bool = False
    earlier: tuple[Row, ...] = ()
    request: str = ""

    @property
    def scans_everything(self) -> bool:
        """Say whether a scan of everything is under way."""
        return self.scan is not None and not self.covered and not self.scan.names

    @property
    def proof(self) -> tuple[Row, ...]:
        """Return the rows that prove the checkpoint, oldest first."""
        return (*self.earlier, *(() if self.last_row is None else (self.last_row,)))


class OnDisk(msgspec.Struct, frozen=True):
    """The state on a listener's disk: its progress (None in a new file), quarantine and documents in doubt."""

    saved: SavedProgress | None = None
    kept: Collection[Quarantined] = ()
    doubts: Collection[str] = ()


class Identity(msgspec.Struct, frozen=True):
    """The identity of a copy, and its newest rows. A checkpoint of another copy says nothing about this one.

    `recent` are some of the newest rows, oldest first. `has_last_row` says whether the copy has the rows that prove the
    checkpoint. A copy restored from a backup keeps its `uuid`, but may lack them. It is None if the copy can be read
    but does not answer that question.
    """

    uuid: str
    update_seq: Sequence
    recent: tuple[Row, ...] = ()
    has_last_row: bool | None = True


def is_behind(identity: Identity, checkpoint: Sequence) -> bool:
    """Say whether a copy has fewer changes than a checkpoint promises, because it was created again or restored.

    Opaque sequences are judged by CouchDB's clustered feed itself.
    """
    return is_before(identity.update_seq, checkpoint)


def is_where_it_was(row: Row, found: Row | None) -> bool | None:
    """Say whether a copy still has a `row` that was read from it, by the document's row that it shows now.

    `found` is the current row, with all leaves of the document.

    - A document with the same single revision must have the same sequence. Otherwise the copy was restored, and
      replication brought the document again, before or after rows that were never read.
    - If the document has changed, by a new revision or by a conflict that lost, the answer is None. The caller must ask
      whether the copy knows the earlier revision.
    """
    if found is None:
        return False
    if isinstance(row.seq, int) and isinstance(found.seq, int):
        if found.seq < row.seq:
            return False
        if found.rev == row.rev and len(found.changes) == 1:
            return found.seq == row.seq
        return None
    return True if found.rev == row.rev else None


def resume(
    saved: SavedProgress | None,
    identity: Identity,
    ownership: Ownership,
    me: str,
    near: Sequence | None = None,
    *,
    digest: str = "",
) -> tuple[SavedProgress, str]:
    """Return where to continue, and the reason in words.

    A checkpoint counts only if all of this holds:

    - It is of the same copy, and that copy is not behind it.
    - The copy has the rows that prove the checkpoint.
    - The configuration that databases depend on has not changed, as `digest` says.

    Otherwise live reading begins at the copy's end, and the range is scanned. (docs/architecture.md, "Durability".)

    `near` is the sequence up to which the unsplit copy was read, if this copy is a part of a split one. The parts keep
    its sequences, so live reading begins there. Users who signed up during the split then need not wait for the scan.
    `near` proves nothing, so the range is scanned as well.
    """
    if saved is None and isinstance(near, int) and not is_behind(identity, near):
        return _afresh(identity, ownership, digest, near), "the copy is a part of one that was split"
    if saved is None:
        return _afresh(identity, ownership, digest), "nothing is known of this copy"
    if (why := _void(saved, identity, digest)) is not None:
        return _afresh(identity, ownership, digest), why
    if saved.current == ownership:
        return saved, "the checkpoint holds"
    return change_owner(saved, ownership, me, read=saved.checkpoint), "the checkpoint holds; the owners have changed"


def _void(saved: SavedProgress, identity: Identity, digest: str) -> str | None:
    """Return in words why a checkpoint does not count; None if it does."""
    if saved.uuid != identity.uuid:
        return "the checkpoint is of another copy"
    if is_behind(identity, saved.checkpoint):
        return "the copy is behind the checkpoint"
    if identity.has_last_row is None and saved.checkpoint != START:
        return "it cannot be found out whether the copy has the row at the checkpoint"
    if not identity.has_last_row and saved.checkpoint != START:
        return "the copy has another history than at the checkpoint: was it put back from a backup?"
    if saved.digest != digest:
        return "the configuration of databases has changed"
    return None


def change_owner(saved: SavedProgress, ownership: Ownership, me: str, *, read: Sequence) -> SavedProgress:
    """Return the progress once `ownership` is in force, with a scan if documents are gained.

    The scan ends at `read`, the sequence that the live feed has read to, because later rows are judged by the new
    ownership. A scan under way begins again, because it looked for other documents. A careful scan stays careful,
    because its reason stays.
    """
    covered = saved.covered
    if covered and saved.current not in covered:
        covered = (*covered, saved.current)
    if covered and not any(ownership.gains(me, past) for past in covered):
        names_owed = saved.names_owed or _compares_names(saved)
        return msgspec.structs.replace(saved, current=ownership, covered=(ownership,), scan=None, names_owed=names_owed)
    if len(covered) > _MAX_HISTORY:
        covered = ()
    names_owed = saved.names_owed or _compares_names(saved)
    careful = saved.scan is not None and saved.scan.careful and not saved.scan.names
    known = _knows_all(saved) and not ownership.gains(me, saved.current)
    scan = Scan(until=read, careful=careful, known=known)
    return msgspec.structs.replace(saved, current=ownership, covered=covered, scan=scan, names_owed=names_owed)


def _knows_all(saved: SavedProgress) -> bool:
    """Say whether every user whose document this instance owns was served before."""
    return bool(saved.covered) if saved.scan is None else not saved.scan.is_awaited


def _compares_names(saved: SavedProgress) -> bool:
    return saved.scan is not None and saved.scan.names


def sweep_finished(saved: SavedProgress) -> SavedProgress:
    """Return the progress once a sweep is done. After the last sweep the checkpoint covers all owned documents."""
    scan = saved.scan
    following = None if scan is None else _sweep_after(scan)
    if scan is not None and scan.names:
        return msgspec.structs.replace(saved, scan=None)
    if scan is not None and following is not None:
        return msgspec.structs.replace(saved, scan=msgspec.structs.replace(scan, position=START, sweep=following))
    return msgspec.structs.replace(saved, covered=(saved.current,), scan=None)


def _sweep_after(scan: Scan) -> Sweep | None:
    if scan.sweep is Sweep.DATABASES:
        return Sweep.SECURITY
    return Sweep.COPIES if scan.sweep is Sweep.SECURITY and not scan.careful else None


def scan_everything(saved: SavedProgress, *, read: Sequence) -> SavedProgress:
    """Return the progress once a scan of everything begins. It ends at `read`, the live feed's position."""
    scan = Scan(until=read, careful=True, known=_knows_all(saved))
    return msgspec.structs.replace(saved, covered=(), scan=scan, owed=False, names_owed=False)


def owe_names(saved: SavedProgress) -> SavedProgress:
    """Return the progress once names are to be compared. A scan of everything in its first sweep does that too."""
    scan = saved.scan
    if scan is not None and not saved.covered and scan.sweep is Sweep.DATABASES:
        return saved
    return msgspec.structs.replace(saved, names_owed=True)


def compare_names(saved: SavedProgress, *, read: Sequence) -> SavedProgress:
    """Return the progress once the owed comparison of names begins."""
    scan = Scan(until=read, careful=True, names=True, known=_knows_all(saved))
    return msgspec.structs.replace(saved, scan=scan, names_owed=False)


def wanted_by_scan(saved: SavedProgress, me: str) -> Callable[[str], bool]:
    """Return a function that says whether the scan under way must act on a document id.

    If an id does not hash into the range, its row belongs to another document that CouchDB shows under this id.
    """
    mine = saved.current.belongs_to(me)
    is_inside = saved.current.is_inside
    if not saved.covered or (saved.scan is not None and saved.scan.names):
        return lambda document_id: mine(document_id) and is_inside(document_id)
    past = [ownership.belongs_to(me) for ownership in saved.covered]
    return lambda document_id: (
        mine(document_id) and not all(was_mine(document_id) for was_mine in past) and is_inside(document_id)
    )


def _afresh(identity: Identity, ownership: Ownership, digest: str, near: Sequence | None = None) -> SavedProgress:
    return SavedProgress(
        identity.uuid,
        identity.update_seq if near is None else near,
        ownership,
        scan=Scan(until=identity.update_seq),
        last_row=identity.recent[-1] if identity.recent else None,
        digest=digest,
        earlier=identity.recent[:-1],
    )
