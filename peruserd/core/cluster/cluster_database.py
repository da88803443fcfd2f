"""The database of peruserd's own, which all instances of a cluster share: what to do about it, by what is known.

It has one range and is for server admins only, so that CouchDB's own access check is what tells an instance's lease
from a forged one. It is recognized by a marker document; a database of that name without the marker is somebody
else's, and is never touched.

Nothing here takes an answer to a request for success. A step is done when it can be read back, copy by copy. Two nodes
that make the database in different seconds make two shard maps, of which one is forgotten again (measured), together
with what was written by it.
"""

from typing import Any, Final

import msgspec

from peruserd.core.ownership.hashing import document_hash

MARKER_ID: Final = "peruserd"
MARKER: Final[dict[str, Any]] = {"type": "peruserd.cluster", "format": 1}
"""The marker's content. It is a constant, so that instances that write it at once write the same revision."""

ADMINS_ONLY: Final[dict[str, Any]] = {"admins": {"roles": ["_admin"]}, "members": {"roles": ["_admin"]}}
"""The security object of each copy: server admins have the role `_admin`, and nobody else can have it."""

MAX_COPIES: Final = 5
"""Each copy takes part in each reading of the leases, and four hosts that are lost at once are enough to survive."""

# The security objects that a server gives a new database, by its `default_security`: `{}` lets everybody in.
_AS_MADE: Final[tuple[dict[str, Any], ...]] = (ADMINS_ONLY, {})

_FINISHED: Final = ("cluster_finished", "single_node_enabled")

_MARKER_POSITION: Final = document_hash(MARKER_ID)


class CopyState(msgspec.Struct, frozen=True):
    """One copy of a range, as its own node shows it.

    `holds_marker` says whether the marker belongs to its range, `marker` is the document there (None: it has none).
    `untouched` says that no document was ever written to it; it matters only where the marker is missing.
    """

    node: str
    security: dict[str, Any]
    holds_marker: bool = True
    marker: dict[str, Any] | None = None
    untouched: bool = False

    @property
    def is_closed(self) -> bool:
        """Say whether the security object is the one that all copies must have."""
        return self.security == ADMINS_ONLY


class Known(msgspec.Struct, frozen=True):
    """The facts that one look has shown.

    `hosts` are the nodes that host the range of the marker, None where there is no such database; `copies` are the
    copies that answered, of nodes that go by the same shard map. `setup` is the state of the cluster's set-up as the
    server names it, `has_replicator` whether the other database is there that a set-up makes last. `known_by` are other
    nodes that know the database although the node that is asked does not.
    """

    database: str
    connected: frozenset[str]
    members: frozenset[str]
    auth_db_exists: bool
    hosts: tuple[str, ...] | None = None
    copies: tuple[CopyState, ...] = ()
    setup: str | None = None
    has_replicator: bool = False
    known_by: tuple[str, ...] = ()


class Create(msgspec.Struct, frozen=True):
    """Make the database, with so many copies."""

    copies: int


class Secure(msgspec.Struct, frozen=True):
    """Write the security object to all copies; `open_copies` are the nodes whose copies have another one."""

    open_copies: tuple[str, ...]


class Mark(msgspec.Struct, frozen=True):
    """Write the marker."""


class Wait(msgspec.Struct, frozen=True):
    """Do nothing yet; `why` is a sentence for the operator."""

    why: str


class Refuse(msgspec.Struct, frozen=True):
    """Leave the database alone for good: it is somebody else's."""

    why: str


class Ready(msgspec.Struct, frozen=True):
    """The database is ours, and each copy that answers is closed to all but server admins."""


Step = Create | Secure | Mark | Wait | Refuse | Ready


def next_step(known: Known) -> Step:
    """Return the one next thing to do; after it, what is known has to be read again.

    The rules, in their order:
    - A missing database is made when the authentication database is there, a majority of the members is connected and
      the set-up of the cluster is finished. A database made earlier would have its copies on the first node alone.
    - A database that another node knows is not missing. Made once more, it would have two shard maps, and the leases
      that are written by one of them would be lost.
    - A copy with another document in the marker's place makes the database somebody else's.
    - A copy with the marker makes it ours. The security object of each of its copies is put right then.
    - Without a marker it is somebody else's, unless its making was cut short: no document was ever written to any copy,
      and nobody was given access. Both are judged only by a majority of the hosts, because a copy that was away knows
      nothing of the marker.
    """
    if known.hosts is None:
        return _making(known)
    markers = [each for each in known.copies if each.holds_marker]
    if not markers:
        return Wait(f"no copy of the database {known.database} answers: {', '.join(known.hosts)}")
    if any(each.marker is not None and not is_marker(each.marker) for each in markers):
        return Refuse(_foreign(known.database, f"its document {MARKER_ID!r} is not peruserd's"))
    if not any(each.marker is not None for each in markers):
        return _claiming(known, markers)
    open_copies = _open_copies(known.copies)
    return Secure(open_copies) if open_copies else Ready()


def is_marker(document: dict[str, Any]) -> bool:
    """Say whether a document is the marker; that of another format is a later version's, and is not touched."""
    return all(document.get(key) == value for key, value in MARKER.items())


def holds_marker(begin: int, end: int) -> bool:
    """Say whether the marker belongs to the range from `begin` to `end`."""
    return begin <= _MARKER_POSITION <= end


def copies_wanted(members: int) -> int:
    """Return how many copies the database should have in a cluster of so many nodes."""
    return min(MAX_COPIES, members)


def _making(known: Known) -> Step:
    if not known.auth_db_exists:
        return Wait("the authentication database does not exist")
    if 2 * len(known.connected & known.members) <= len(known.members):
        return Wait(
            f"the database {known.database} is made when a majority of the cluster's nodes is connected: "
            f"{len(known.connected & known.members)} of {len(known.members)} are"
        )
    if known.known_by:
        return Wait(
            f"this node does not know of the database {known.database}, and others do: {', '.join(known.known_by)}"
        )
    if known.setup not in _FINISHED and not known.has_replicator:
        return Wait(
            f"the database {known.database} is made when the cluster's set-up is finished: /_cluster_setup says "
            f"{known.setup or 'nothing'}, and there is no database _replicator, which a set-up makes last"
        )
    return Create(copies_wanted(len(known.members)))


def _claiming(known: Known, copies: list[CopyState]) -> Step:
    hosts = known.hosts or ()
    if 2 * len(copies) <= len(hosts):
        return Wait(
            f"the database {known.database} shows no marker, and only {len(copies)} of its {len(hosts)} copies answer"
        )
    if not all(each.untouched for each in known.copies):
        return Refuse(_foreign(known.database, f"it has documents, and none of peruserd's with the id {MARKER_ID!r}"))
    if any(each.security not in _AS_MADE for each in known.copies):
        return Refuse(_foreign(known.database, "its security object gives access to somebody"))
    open_copies = _open_copies(known.copies)
    return Secure(open_copies) if open_copies else Mark()


def _open_copies(copies: tuple[CopyState, ...]) -> tuple[str, ...]:
    return tuple(sorted({each.node for each in copies if not each.is_closed}))


def _foreign(database: str, why: str) -> str:
    return f"the database {database} is somebody else's: {why}; set cluster.database to a name that is free"
