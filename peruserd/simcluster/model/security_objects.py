"""Security objects: their shape, their members, and the agreement of copies with different ones. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from peruserd.simcluster.model.copies import ShardCopy


def fault_of(security: dict[str, Any]) -> str | None:
    """Return the fault of a security object in CouchDB's words. None where it is well formed.

    Only the parts that CouchDB reads need a shape. It reads `readers` where there is no `members`.
    """
    for group in (security.get("admins", {}), members_of(security)):
        if not isinstance(group, dict):
            return "admins or members must be a JSON list of strings"
        for key in ("names", "roles"):
            entries = group.get(key, [])
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                return f"{key} must be a JSON list of strings"
    return None


def members_of(security: dict[str, Any]) -> Any:
    """Return the group that may read and write: `members`, or `readers` without it, as before CouchDB 1.0."""
    return security.get("members", security.get("readers", {}))


def as_compared(security: Any) -> str:
    """Return a text by which CouchDB's comparison is made. Another order of keys makes another object."""
    return repr(security)


def agree(copies: Sequence[ShardCopy], total: int) -> None:
    """Give all copies the object of the majority of `total` copies, as `mem3_sync_security` does.

    Nothing is done where there are more than two different objects, or no majority.
    """
    counted = Counter(as_compared(copy.security) for copy in copies)
    common, count = max(counted.items(), key=lambda pair: pair[1], default=("", 0))
    if len(counted) != 2 or count <= total // 2:
        return
    winner = next(copy.security for copy in copies if as_compared(copy.security) == common)
    for copy in copies:
        if as_compared(copy.security) != common:
            copy.set_security(winner)
