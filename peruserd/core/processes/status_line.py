"""The sentence that `systemctl status` shows: what an instance does, or else what troubles it most."""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.common.escaping import named

_MAX_NAMES: Final = 3


class Condition(msgspec.Struct, frozen=True):
    """What the sentence is made of.

    - `healthy` and `ready`: the answers of `/healthz` and `/readyz`, each with its reason.
    - `plan`: what the instance does, in words.
    - `away`: the nodes of the cluster that are not connected.
    - `couch_peruser`: whether CouchDB's own couch_peruser is on; None while that is not known.
    - `failing`: the threads whose last turn has failed.
    - `refused`: why the last reload was refused; None if it was not.
    """

    healthy: tuple[bool, str]
    ready: tuple[bool, str]
    plan: str
    away: tuple[str, ...] = ()
    couch_peruser: bool | None = None
    failing: tuple[str, ...] = ()
    refused: str | None = None


def sentence(condition: Condition) -> str:
    """Return what troubles the instance most, or what it does, and then what else needs somebody's attention."""
    return "; ".join([_most_important(condition), *_remarks(condition)])


def _most_important(condition: Condition) -> str:
    is_healthy, why = condition.healthy
    if not is_healthy:
        return f"not healthy: {why}"
    is_ready, why = condition.ready
    # What follows the `ok` is worth knowing as well, such as users in quarantine.
    return f"{condition.plan}{why.removeprefix('ok')}" if is_ready else f"not ready: {why}"


def _remarks(condition: Condition) -> Iterable[str]:
    if condition.away:
        yield f"not connected: {_names(condition.away)}"
    if condition.couch_peruser:
        yield "couch_peruser is on at this node, and writes to the same databases"
    for each in condition.failing:
        yield f"the thread {each} fails, and is tried again"
    if condition.refused is not None:
        yield f"configuration refused, the one before is in force: {condition.refused}"


def _names(nodes: tuple[str, ...]) -> str:
    more = len(nodes) - _MAX_NAMES
    return ", ".join(map(named, nodes[:_MAX_NAMES])) + (f" and {more} more" if more > 0 else "")
