"""peruserd's own database, shared by all instances of a cluster: how it is created, secured and recognized.

The database has one range and is for server admins only, so CouchDB's own access check keeps forged leases out. A
marker document identifies it. A database of the same name without the marker belongs to somebody else, and is never
touched.

No answer to a request counts as success. A step is done when its result can be read back, copy by copy. If two nodes
create the database in different seconds, there are two shard maps. CouchDB later drops one of them (measured), together
with everything that was written through it.
"""

from typing import Any, Final

import msgspec

from peruserd.core.common.majority import is_majority
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.users.security import CLOSED, is_blank

MARKER_ID: Final = "peruserd"
MARKER: Final[dict[str, Any]] = {"type": "peruserd.cluster", "format": 1}
"""The marker's content. It is a constant, so several instances that write it at once write the same revision."""

ADMINS_ONLY: Final = CLOSED
"""The security object of each copy. It is also the one that most servers give a new database."""

MAX_COPIES: Final = 5
"""The most copies. Each reading of the leases asks every copy, and it is enough to survive four lost hosts."""

_FINISHED: Final = ("cluster_finished", "single_node_enabled")

_MARKER_POSITION: Final = document_hash(MARKER_ID)


class CopyState(msgspec.Struct, frozen=True):
    """One copy of a range, as its own node shows it.

    `holds_marker` says whether the marker's id hashes into the range. `marker` is the document with that id; None if
    there is none. `untouched` says that no document was ever written to the copy; it is only used if there is no
    marker.
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
    """The facts from one reading of the cluster.

    - `hosts`: the nodes that host the marker's range; None if the node that was asked knows no such database.
    - `copies`: the copies that answered, from nodes with the same shard map.
    - `setup`: the state of the cluster's set-up, in CouchDB's words.
    - `has_replicator`: whether `_replicator` exists, the database that a set-up creates last.
    - `known_by`: other nodes that know the database although the node that was asked does not.
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
    """Create the database, with this number of copies."""

    copies: int


class Secure(msgspec.Struct, frozen=True):
    """Write the security object to all copies. `open_copies` are the nodes whose copies have another object."""

    open_copies: tuple[str, ...]


class WriteMarker(msgspec.Struct, frozen=True):
    """Write the marker."""


class Wait(msgspec.Struct, frozen=True):
    """Do nothing yet; `why` is a sentence for the operator."""

    why: str


class Refuse(msgspec.Struct, frozen=True):
    """Leave the database alone for good, because it belongs to somebody else."""

    why: str


class Ready(msgspec.Struct, frozen=True):
    """The database is ours, and each copy that answers admits only server admins."""


Step = Create | Secure | WriteMarker | Wait | Refuse | Ready


def next_step(known: Known) -> Step:
    """Return the next step. After it the facts must be read again.

    The rules, in their order:

    - A missing database is created when the authentication database exists, a majority of the members is connected and
      the cluster's set-up is finished. A database from before the set-up would have copies on the first node only.
    - A database that another node knows is not missing. Created once more, it would have two shard maps, and the leases
      written through one of them would be lost.
    - If any copy has another document with the marker's id, the database belongs to somebody else.
    - If any copy has the marker, the database is ours. The security objects of its copies are corrected.
    - Without a marker the database is ours only if its creation was interrupted. Then no document was ever written to
      any copy, and nobody was given access. A majority of the hosts must have answered for this, because a copy that
      was away does not have the marker yet.
    - Without a marker any other database belongs to somebody else.
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
    """Say whether a document is the marker. A marker of another format is a later version's, and is not touched."""
    return all(document.get(key) == value for key, value in MARKER.items())


def holds_marker(begin: int, end: int) -> bool:
    """Say whether the marker belongs to the range from `begin` to `end`."""
    return begin <= _MARKER_POSITION <= end


def copies_wanted(members: int) -> int:
    """Return how many copies the database should have in a cluster with this number of nodes."""
    return min(MAX_COPIES, members)


def _making(known: Known) -> Step:
    if not known.auth_db_exists:
        return Wait("the authentication database does not exist")
    if not is_majority(len(known.connected & known.members), len(known.members)):
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
    if not is_majority(len(copies), len(hosts)):
        return Wait(
            f"the database {known.database} shows no marker, and only {len(copies)} of its {len(hosts)} copies answer"
        )
    if not all(each.untouched for each in known.copies):
        return Refuse(_foreign(known.database, f"it has documents, and none of peruserd's with the id {MARKER_ID!r}"))
    if not all(is_blank(each.security) for each in known.copies):
        return Refuse(_foreign(known.database, "its security object gives access to somebody"))
    open_copies = _open_copies(known.copies)
    return Secure(open_copies) if open_copies else WriteMarker()


def _open_copies(copies: tuple[CopyState, ...]) -> tuple[str, ...]:
    return tuple(sorted({each.node for each in copies if not each.is_closed}))


def _foreign(database: str, why: str) -> str:
    return f"the database {database} is somebody else's: {why}; set cluster.database to a name that is free"
