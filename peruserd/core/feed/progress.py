"""The progress of a listener: how far it has got, what that lets it skip, and what it must read again.

A listener reads its copy in two lanes: *live* from some sequence on, and where needed a *scan* from the start to that
sequence for the documents it owns now but was not responsible for all along.

Invariant of a `SavedProgress`: a change up to `checkpoint` of a document that was its own under `current` and under
every one of `settled` is finished, or safely in quarantine, or a scan of everything is `owed`. One of any other
document it owns now is finished too, or beyond the `position` of the sweep over security objects of a scan that is
saved with it.
"""

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.feed.rows import Row, Sequence
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.users.quarantine import Quarantined

# Past this many changes of ownership during one scan, remembering them costs more than reading everything again.
_MAX_HISTORY: Final = 8

START: Final[Sequence] = 0
"""The sequence before every change; shard copies and clustered feeds both take it."""


class Sweep(StrEnum):
    """The purposes of a scan, in this order, because a user without a database has nothing at all."""

    DATABASES = "databases"  # to make those that are missing
    SECURITY = "security"  # to look at every security object, as a clustered read shows it
    COPIES = "copies"  # to compare the copies of every security object


class Scan(msgspec.Struct, frozen=True):
    """A scan under way: this sweep is finished up to `position`, and ends at `until`.

    A `careful` one believes no row, and asks each copy of the document and of the security object. So it needs no sweep
    to compare copies. One of `names` looks only for users whose database is not there or was made again. One of `known`
    users looks at nobody who was not served before, as far as a clustered read tells.
    """

    until: Sequence
    position: Sequence = START
    sweep: Sweep = Sweep.DATABASES
    careful: bool = False
    names: bool = False
    known: bool = False

    @property
    def is_awaited(self) -> bool:
        """Say whether users may wait for this scan who were never served."""
        return not self.known and self.sweep is not Sweep.COPIES


class SavedProgress(msgspec.Struct, frozen=True):
    """The progress that is on disk of one copy, named by its `uuid`.

    `current` is the ownership in force; `settled` are those under all of which a document must have been its own for
    the checkpoint to speak of it. No `settled` at all means that the checkpoint speaks of no document yet. `owed` says
    that only a scan of everything finds those again who need a look: users who failed and found no room in quarantine,
    or users who were looked at while no majority of the nodes was connected. `names_owed` says that names are to be
    compared, because rows of the list of databases were missed.

    `last_row` is the newest row at or before the checkpoint, and proves it together with some `earlier` ones, oldest
    first: a copy that does not have these rows has another history. `digest` stands for what databases depend on, see
    `core.cluster.agreement`. `request` is the last one to look at everybody for which a scan was begun.
    """

    uuid: str
    checkpoint: Sequence
    current: Ownership
    settled: tuple[Ownership, ...] = ()
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
        return self.scan is not None and not self.settled and not self.scan.names

    @property
    def proof(self) -> tuple[Row, ...]:
        """Return the rows that prove the checkpoint, oldest first."""
        return (*self.earlier, *(() if self.last_row is None else (self.last_row,)))


class OnDisk(msgspec.Struct, frozen=True):
    """The state that a listener finds on its disk: progress (None in a new file), quarantine, documents in doubt."""

    saved: SavedProgress | None = None
    kept: Collection[Quarantined] = ()
    doubts: Collection[str] = ()


class Identity(msgspec.Struct, frozen=True):
    """Which copy this is, and how far it has got. A checkpoint of another copy says nothing about this one.

    `recent` are some of its newest rows, oldest first. `has_last_row` says whether it has the rows that prove the
    checkpoint: the files of a copy can be put back from a backup, and keep the `uuid`. It is None where the copy can be
    read and does not answer that.
    """

    uuid: str
    update_seq: Sequence
    recent: tuple[Row, ...] = ()
    has_last_row: bool | None = True


def is_behind(identity: Identity, checkpoint: Sequence) -> bool:
    """Say whether a copy has fewer changes than a checkpoint promises: it was made again, or restored.

    Only integers can be compared; an opaque sequence is the clustered feed's own to judge.
    """
    if isinstance(identity.update_seq, int) and isinstance(checkpoint, int):
        return identity.update_seq < checkpoint
    return False


def is_where_it_was(row: Row, found: Row | None) -> bool | None:
    """Say whether a copy has a row that was read of it, by the row that it shows of that document now.

    `found` has all leaves of the document. None where it cannot tell: the document has moved on, by another revision or
    by a conflict that lost, and the copy must know the revision of before. A document that has kept its one revision
    has kept its sequence. Where it has another one, the copy was put back, and the document came to it again by
    replication, before or behind others that were never read.
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


def reached(position: Sequence, until: Sequence) -> bool:
    """Say whether a scan at `position` has come to `until`. Opaque sequences cannot tell; there an empty page does."""
    return isinstance(position, int) and isinstance(until, int) and position >= until


def resume(
    saved: SavedProgress | None,
    identity: Identity,
    ownership: Ownership,
    me: str,
    near: Sequence | None = None,
    *,
    digest: str = "",
) -> tuple[SavedProgress, str]:
    """Return where to go on, and in words why.

    A checkpoint counts only where all this is so:

    - It is of the same copy, and that copy is not behind it.
    - The copy has the row at the checkpoint.
    - What databases depend on, as `digest` says, is as it was.

    Otherwise live begins at the copy's end and the range is scanned. The source of the rule is the design's "Rules of
    durability".

    `near` is where the copy this one was split from was read to. Halves keep their numbers, so live begins there, and
    who signed up while the range was split need not wait for the scan. It proves nothing: the scan is made as well.
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
    """Say in words why a checkpoint does not count; None where it does."""
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
    """Return what is known once `ownership` is in force, with a scan where documents are gained.

    The scan ends where the live feed has `read` to: what comes after is judged by the new ownership. A scan under way
    begins again, because it looked for other documents. One that was careful stays so, because its reason stays.
    """
    settled = saved.settled
    if settled and saved.current not in settled:
        settled = (*settled, saved.current)
    if settled and not any(ownership.gains(me, past) for past in settled):
        names_owed = saved.names_owed or _compares_names(saved)
        return msgspec.structs.replace(saved, current=ownership, settled=(ownership,), scan=None, names_owed=names_owed)
    if len(settled) > _MAX_HISTORY:
        settled = ()
    names_owed = saved.names_owed or _compares_names(saved)
    careful = saved.scan is not None and saved.scan.careful and not saved.scan.names
    known = _knows_all(saved) and not ownership.gains(me, saved.current)
    scan = Scan(until=read, careful=careful, known=known)
    return msgspec.structs.replace(saved, current=ownership, settled=settled, scan=scan, names_owed=names_owed)


def _knows_all(saved: SavedProgress) -> bool:
    """Say whether everybody was served before whose document is this instance's."""
    return bool(saved.settled) if saved.scan is None else not saved.scan.is_awaited


def _compares_names(saved: SavedProgress) -> bool:
    return saved.scan is not None and saved.scan.names


def sweep_finished(saved: SavedProgress) -> SavedProgress:
    """Return what is known once a sweep is done: after the last one the checkpoint speaks of all that is owned now."""
    scan = saved.scan
    following = None if scan is None else _sweep_after(scan)
    if scan is not None and scan.names:
        return msgspec.structs.replace(saved, scan=None)
    if scan is not None and following is not None:
        return msgspec.structs.replace(saved, scan=msgspec.structs.replace(scan, position=START, sweep=following))
    return msgspec.structs.replace(saved, settled=(saved.current,), scan=None)


def _sweep_after(scan: Scan) -> Sweep | None:
    if scan.sweep is Sweep.DATABASES:
        return Sweep.SECURITY
    return Sweep.COPIES if scan.sweep is Sweep.SECURITY and not scan.careful else None


def scan_everything(saved: SavedProgress, *, read: Sequence) -> SavedProgress:
    """Return what is known once the scan begins that is owed, up to where the live feed has `read` to."""
    scan = Scan(until=read, careful=True, known=_knows_all(saved))
    return msgspec.structs.replace(saved, settled=(), scan=scan, owed=False, names_owed=False)


def owe_names(saved: SavedProgress) -> SavedProgress:
    """Return what is known once names are to be compared; a scan of everything that has hardly begun does that too."""
    scan = saved.scan
    if scan is not None and not saved.settled and scan.sweep is Sweep.DATABASES:
        return saved
    return msgspec.structs.replace(saved, names_owed=True)


def compare_names(saved: SavedProgress, *, read: Sequence) -> SavedProgress:
    """Return what is known once the comparison of names begins that is owed."""
    scan = Scan(until=read, careful=True, names=True, known=_knows_all(saved))
    return msgspec.structs.replace(saved, scan=scan, names_owed=False)


def wanted_by_scan(saved: SavedProgress, me: str) -> Callable[[str], bool]:
    """Return the function that says of a document id whether the scan under way must act on it.

    A row whose id does not hash into the range is of another document that is shown by this id.
    """
    mine = saved.current.belongs_to(me)
    is_inside = saved.current.is_inside
    if not saved.settled or (saved.scan is not None and saved.scan.names):
        return lambda document_id: mine(document_id) and is_inside(document_id)
    past = [ownership.belongs_to(me) for ownership in saved.settled]
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
