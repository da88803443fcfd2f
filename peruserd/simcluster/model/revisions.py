"""Revisions of one document: new revisions by edits, and the common state of two copies.

Pure. A document's state is its leaves, the winner first. There is one leaf, or more after a partition with edits on
both sides. Joining states is commutative, associative and idempotent, so copies converge in whatever order they meet.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from typing import Any, Final

import msgspec

# CouchDB's own default for `_revs_limit`. Older ancestors are forgotten.
MAX_ANCESTORS: Final = 1000


class ConflictError(Exception):
    """An edit that does not continue a leaf."""


class Revision(msgspec.Struct, frozen=True, eq=False):
    """One revision. `body` has no `_id` and `_rev`, and is never changed. `ancestors` has the parent first."""

    rev: str
    generation: int
    deleted: bool
    body: dict[str, Any]
    ancestors: tuple[str, ...] = ()


Leaves = tuple[Revision, ...]


def edit(leaves: Leaves | None, rev: str | None, body: dict[str, Any], *, deleted: bool) -> Leaves:
    """Return the leaves after one edit of revision `rev`. The first leaf is the winner.

    Without `rev` only a missing or deleted document can be written. Raises ConflictError.
    """
    parent = continued(leaves, rev)
    generation = parent.generation + 1 if parent else 1
    parts = [deleted, parent.rev if parent else "", body]
    digest = md5(msgspec.json.encode(parts), usedforsecurity=False).hexdigest()
    ancestors = (parent.rev, *parent.ancestors)[:MAX_ANCESTORS] if parent else ()
    made = Revision(f"{generation}-{digest}", generation, deleted, body, ancestors)
    return join(leaves, (made,)) if leaves else (made,)


def continued(leaves: Leaves | None, rev: str | None) -> Revision | None:
    """Return the leaf that an edit of `rev` continues, None for a new document. Raises ConflictError."""
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


def chosen(path: Sequence[str], body: dict[str, Any], *, deleted: bool) -> Revision:
    """Return a revision under a name of the writer's choice. `path` has its name first, then its ancestors."""
    return Revision(path[0], generation_of(path[0]), deleted, body, tuple(path[1:]))


def generation_of(rev: str) -> int:
    """Return the number at the beginning of a revision. ValueError where there is none."""
    number, dash, rest = rev.partition("-")
    if not (number.isdecimal() and dash and rest):
        raise ValueError(f"{rev!r} is no revision")
    return int(number)


def is_known(leaves: Leaves, rev: str) -> bool:
    """Say whether a revision is a leaf or an ancestor of one."""
    return any(rev == leaf.rev or rev in leaf.ancestors for leaf in leaves)


def newest(leaves: Leaves, rev: str | None) -> Revision | None:
    """Return the winner, or the leaf `rev`. None where it is not a leaf."""
    if rev is None:
        return leaves[0]
    return next((leaf for leaf in leaves if leaf.rev == rev), None)


def join(ours: Leaves, theirs: Leaves) -> Leaves:
    """Return the leaves of both states together, or `ours` itself where `theirs` adds nothing."""
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


def choose(replies: Sequence[Leaves | None], r: int) -> tuple[Leaves | None, list[Leaves]]:
    """Return the result of a clustered read, and the replies that it used. `replies` are in the order of arrival.

    The read ends when `r` copies have given the same reply. The repeated reply is the result if the other replies are
    its ancestors. If not, the highest state is the result, and a live state is higher than a deleted one.
    """
    heard: dict[str | None, Leaves | None] = {}
    counts: Counter[str | None] = Counter()
    for reply in replies:
        key = reply[0].rev if reply else None
        heard.setdefault(key, reply)
        counts[key] += 1
        if counts[key] >= r:
            others = [rev for rev in heard if rev not in (None, key)]
            if not others or (reply and all(rev in reply[0].ancestors for rev in others)):
                return reply, [leaves for leaves in heard.values() if leaves]
            break
    found = [leaves for leaves in heard.values() if leaves]
    return max(found, key=lambda leaves: _rank(leaves[0]), default=None), found


def same(ours: Leaves | None, theirs: Leaves | None) -> bool:
    """Say whether two states are one."""
    if ours is theirs:
        return True
    if ours is None or theirs is None or len(ours) != len(theirs):
        return False
    return all(mine.rev == other.rev for mine, other in zip(ours, theirs, strict=True))


def _rank(leaf: Revision) -> tuple[bool, int, str]:
    return not leaf.deleted, leaf.generation, leaf.rev
