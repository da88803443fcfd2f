"""Leases as documents: the id of each lease, and which documents count as leases.

Any server admin can write such documents, by mistake or with a later version. So their number and size are bounded when
they are read, and unprintable characters never reach a terminal or a log.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.cluster.leases import Lease, Role
from peruserd.core.common.decoders import json_decoder

MAX_LEASES: Final = 1_000
"""The most leases to read. Every node that ever existed has left up to two, one for each role."""

FIRST_ID: Final = "_local/peruserd.active."
LAST_ID: Final = "_local/peruserd.standby/"
"""The bounds of the listing: all ids of leases sort between `FIRST_ID` and `LAST_ID`."""

MAX_BYTES: Final = 4_096
"""The limit of one document. The longest possible lease has a third of this size."""

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
    """Return the id of a lease. There is one for each node and role, so leases are overwritten and never pile up."""
    return f"_local/peruserd.{role.value}.{node}"


def read_leases(rows: Iterable[LeaseRow]) -> tuple[Lease, ...]:
    """Return the leases among some rows. A row is skipped if it is no lease, or has the id of another lease."""
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
        and 0 <= lease.protocol <= _MAX_COUNTER
        and "".join([lease.node, *tokens]).isprintable()
    )


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else _UNPRINTABLE for each in text[:_MAX_TEXT])
