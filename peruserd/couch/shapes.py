"""The shapes of CouchDB's JSON answers. They have only the fields that are read; all others are ignored."""

import msgspec

from peruserd.core.cluster.lease_documents import LeaseRow
from peruserd.core.common.majority import is_majority


class Welcome(msgspec.Struct, frozen=True):
    """The answer of a server at `/`."""

    version: str = "unknown"
    couchdb: str | None = None

    @property
    def is_known(self) -> bool:
        """Say whether the server tells its version; a proxy's page for every path does not."""
        return self.version != "unknown"

    @property
    def has_shards(self) -> bool:
        """Say whether this is CouchDB 3.0 or later, with shards and pages of its nodes."""
        major = self.version.partition(".")[0]
        return self.couchdb is not None and major.isascii() and major.isdecimal() and int(major[:9]) >= 3


class Membership(msgspec.Struct, frozen=True):
    """The nodes that are connected now (`all_nodes`), and those that belong to the cluster (`cluster_nodes`).

    A node can be in one list and not in the other.
    """

    all_nodes: tuple[str, ...]
    cluster_nodes: tuple[str, ...]

    @property
    def away(self) -> tuple[str, ...]:
        """The nodes that belong to the cluster and are not connected, sorted."""
        return tuple(sorted(set(self.cluster_nodes).difference(self.all_nodes)))

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the cluster's nodes are connected."""
        members = set(self.cluster_nodes)
        return is_majority(len(members.intersection(self.all_nodes)), len(members))

    @property
    def strays(self) -> list[str]:
        """The connected nodes that do not belong to the cluster, sorted."""
        return sorted(set(self.all_nodes).difference(self.cluster_nodes))


class Named(msgspec.Struct, frozen=True):
    """The name of a node."""

    name: str


class Suffixed(msgspec.Struct, frozen=True):
    """The suffix in the names of a database's shards.

    CouchDB writes it as a list of numbers. It also accepts a text: a person may have edited the map by hand. Very old
    databases have no suffix.
    """

    shard_suffix: list[int] | str = []

    @property
    def suffix(self) -> str:
        """Return it as a text; raises ValueError if it is not valid."""
        if isinstance(self.shard_suffix, str):
            return self.shard_suffix.encode("ascii").decode()
        return bytes(self.shard_suffix).decode("ascii")


class ShardMapDocument(Suffixed, frozen=True, kw_only=True):
    """The part of a shard map from which CouchDB builds shards (`mem3_util:build_shards`).

    CouchDB uses `by_range` only for an order.
    """

    by_node: dict[str, list[str]]

    def hosts(self) -> dict[str, list[str]]:
        """Return the nodes of each range."""
        hosts: dict[str, list[str]] = {}
        for node, ranges in self.by_node.items():
            for each in ranges:
                hosts.setdefault(each, []).append(node)
        return hosts


class Counts(msgspec.Struct, frozen=True):
    """The counts of a database, or of a copy of one of its shards."""

    doc_count: int
    doc_del_count: int | None = None
    update_seq: int | str = ""


class Listing(msgspec.Struct, frozen=True):
    """A list whose rows are only counted."""

    rows: list[msgspec.Raw]


class LeaseListing(msgspec.Struct, frozen=True):
    """A list of local documents, read as leases."""

    rows: list[LeaseRow]


class Setup(msgspec.Struct, frozen=True):
    """The state of a cluster's set-up."""

    state: str


class Up(msgspec.Struct, frozen=True):
    """The status of a node: in service or not."""

    status: str = ""


class MapRevision(msgspec.Struct, frozen=True):
    """The winning revision of a shard map."""

    deleted: bool = False


class DirectoryRow(msgspec.Struct, frozen=True):
    """A row of a list of shard maps; `value` is None if there never was such a map."""

    key: str
    value: MapRevision | None = None


class Directory(msgspec.Struct, frozen=True):
    """A list of shard maps, by the names of their databases."""

    rows: list[DirectoryRow]


class RevisionsMissing(msgspec.Struct, frozen=True):
    """A node's revisions of a shard map, in answer to a request for a later revision."""

    possible_ancestors: list[str] = []
