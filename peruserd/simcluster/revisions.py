"""Revisions of one document: how an edit makes a new one, and how two copies' revisions become one state.

Pure. A document's state is its leaves, the winner first: one leaf in peace, more after a partition in which both sides
edited it. Joining states is commutative, associative and idempotent, which is why copies converge whatever the order
in which they meet.
"""

from hashlib import md5
from typing import Any, Final

import msgspec

# CouchDB's own default for `_revs_limit`. Older ancestors are forgotten.
MAX_ANCESTORS: Final = 1000


class ConflictError(Exception):
    """An edit that does not continue a leaf."""


class Revision(msgspec.Struct, frozen=True, eq=False):
    """One revision; `body` is without `_id` and `_rev` and is never changed. `ancestors` has the parent first."""

    rev: str
    generation: int
    deleted: bool
    body: dict[str, Any]
    ancestors: tuple[str, ...] = ()


Leaves = tuple[Revision, ...]


def edit(leaves: Leaves | None, rev: str | None, body: dict[str, Any], *, deleted: bool) -> Leaves:
    """Return the leaves after one edit that names `rev` as what it continues; the first is the winner.

    Without a `rev` only a document that is not there, or deleted, can be written. Raises ConflictError.
    """
    parent = _continued(leaves, rev)
    generation = parent.generation + 1 if parent else 1
    parts = [deleted, parent.rev if parent else "", body]
    digest = md5(msgspec.json.encode(parts), usedforsecurity=False).hexdigest()
    ancestors = (parent.rev, *parent.ancestors)[:MAX_ANCESTORS] if parent else ()
    made = Revision(f"{generation}-{digest}", generation, deleted, body, ancestors)
    return join(leaves, (made,)) if leaves else (made,)


def newest(leaves: Leaves, rev: str | None) -> Revision | None:
    """Return the winner, or the leaf called `rev`; None where it is not a leaf."""
    if rev is None:
        return leaves[0]
    return next((leaf for leaf in leaves if leaf.rev == rev), None)


def join(ours: Leaves, theirs: Leaves) -> Leaves:
    """Return the leaves of both states together; `ours` itself where `theirs` adds nothing."""
    if ours is theirs:
        return ours
    if len(ours) == len(theirs) == 1:
        mine, other = ours[0], theirs[0]
        if mine.rev == other.rev or other.rev in mine.ancestors:
            return ours
        if mine.rev in other.ancestors:
            return theirs
    found = {leaf.rev: leaf for leaf in (*theirs, *ours)}
    outdated = {rev for leaf in found.values() for rev in leaf.ancestors}
    leaves = tuple(sorted((leaf for rev, leaf in found.items() if rev not in outdated), key=_rank, reverse=True))
    return ours if same(ours, leaves) else leaves


def same(ours: Leaves | None, theirs: Leaves | None) -> bool:
    """Say whether two states are one."""
    if ours is theirs:
        return True
    if ours is None or theirs is None or len(ours) != len(theirs):
        return False
    return all(mine.rev == other.rev for mine, other in zip(ours, theirs, strict=True))


def _rank(leaf: Revision) -> tuple[bool, int, str]:
    return not leaf.deleted, leaf.generation, leaf.rev


def _continued(leaves: Leaves | None, rev: str | None) -> Revision | None:
    if not leaves:
        if rev is not None:
            raise ConflictError
        return None
    if rev is None:
        if not leaves[0].deleted:
            raise ConflictError
        return leaves[0]
    parent = newest(leaves, rev)
    if parent is None:
        raise ConflictError
    return parent
