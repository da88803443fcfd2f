"""Security objects: what shape they need, whom they let in, and how copies that have different ones agree. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from peruserd.simcluster.copies import ShardCopy


def fault_of(security: dict[str, Any]) -> str | None:
    """Return what is wrong with a security object, in CouchDB's words; None where it is well formed.

    Only what CouchDB looks into has to have a shape. `readers` is looked into where there is no `members`.
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
    """Return who may read and write: `members`, or `readers` where there is none, as before CouchDB 1.0."""
    return security.get("members", security.get("readers", {}))


def as_compared(security: Any) -> str:
    """Return what two security objects must share to be one for CouchDB: another order of keys is another object."""
    return repr(security)


def agree(copies: Sequence[ShardCopy], total: int) -> None:
    """Let the object win that most of all `total` copies have, as `mem3_sync_security` does.

    Nothing is done where there are more than two different ones, or none that most copies have.
    """
    counted = Counter(as_compared(copy.security) for copy in copies)
    common, count = max(counted.items(), key=lambda pair: pair[1], default=("", 0))
    if len(counted) != 2 or count <= total // 2:
        return
    winner = next(copy.security for copy in copies if as_compared(copy.security) == common)
    for copy in copies:
        if as_compared(copy.security) != common:
            copy.set_security(winner)
