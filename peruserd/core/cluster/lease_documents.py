"""Leases as documents: under which id each is written, and which of those that are read count as leases.

Any server admin can have written them, by mistake or with a version to come. So their number and size are bounded when
they are read, and nothing of them reaches a terminal or a log that is not printable.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.cluster.leases import Lease, Role
from peruserd.core.common.decoders import json_decoder

MAX_LEASES: Final = 1_000
"""So many are read; there are two for each node that ever was, one for each role."""

FIRST_ID: Final = "_local/peruserd.active."
LAST_ID: Final = "_local/peruserd.standby/"
"""No id of a lease sorts before the first or behind the last."""

MAX_BYTES: Final = 4_096
"""A document with more is no lease: the longest lease there can be is a third of it."""

_MAX_NAME: Final = 255
_MAX_TOKEN: Final = 64
_MAX_TEXT: Final = 255
_MAX_COUNTER: Final = 1 << 53

_UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"


class LeaseRow(msgspec.Struct, frozen=True):
    """A row of a listing of local documents."""

    id: str = ""
    doc: msgspec.Raw = msgspec.Raw()


def lease_id(node: str, role: Role) -> str:
    """Return the id of a lease: one for each node and role, so that they are overwritten and never pile up."""
    return f"_local/peruserd.{role.value}.{node}"


def read_leases(rows: Iterable[LeaseRow]) -> tuple[Lease, ...]:
    """Return the leases among some rows; a row is passed over that is none, or stands under another's id."""
    found = (_lease(row) for row in rows)
    return tuple(lease for lease in found if lease is not None)


def _lease(row: LeaseRow) -> Lease | None:
    if len(bytes(row.doc)) > MAX_BYTES:
        return None
    try:
        lease = json_decoder(Lease).decode(row.doc)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if row.id != lease_id(lease.node, lease.role) or not _is_usable(lease):
        return None
    return msgspec.structs.replace(
        lease, version=_shown(lease.version), address=_shown(lease.address), digest=_shown(lease.digest)
    )


def _is_usable(lease: Lease) -> bool:
    tokens = [each for each in (lease.incarnation, lease.replaces) if each is not None]
    return (
        0 < len(lease.node) <= _MAX_NAME
        and all(0 < len(each) <= _MAX_TOKEN for each in tokens)
        and 0 <= lease.counter <= _MAX_COUNTER
        and 0 <= lease.breaks <= _MAX_COUNTER
        and "".join([lease.node, *tokens]).isprintable()
    )


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else _UNPRINTABLE for each in text[:_MAX_TEXT])
