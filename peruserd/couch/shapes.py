"""The JSON of CouchDB's answers, as far as it is read: what else stands in an answer is passed over."""

import msgspec

from peruserd.core.cluster.lease_documents import LeaseRow


class Named(msgspec.Struct, frozen=True):
    """A node, by its name."""

    name: str


class Suffixed(msgspec.Struct, frozen=True):
    """The ending of the names of a database's shards.

    CouchDB writes it as a list of numbers, and takes a text as well, as somebody writes it who edits a map by hand.
    Databases from before shards had suffixes have none.
    """

    shard_suffix: list[int] | str = []

    @property
    def suffix(self) -> str:
        """Return it as a text; ValueError where it cannot end a name."""
        if isinstance(self.shard_suffix, str):
            return self.shard_suffix.encode("ascii").decode()
        return bytes(self.shard_suffix).decode("ascii")


class ShardMapDocument(Suffixed, frozen=True, kw_only=True):
    """The part of a shard map that CouchDB builds shards from (`mem3_util:build_shards`).

    `by_range` only gives an order there.
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
    """How much a database, or a copy of one of its shards, has in it."""

    doc_count: int
    doc_del_count: int | None = None
    update_seq: int | str = ""


class Listing(msgspec.Struct, frozen=True):
    """Rows that are only counted."""

    rows: list[msgspec.Raw]


class LeaseListing(msgspec.Struct, frozen=True):
    """Local documents, as leases."""

    rows: list[LeaseRow]


class Setup(msgspec.Struct, frozen=True):
    """The state of a cluster's set-up."""

    state: str


class Up(msgspec.Struct, frozen=True):
    """Whether a node is in service."""

    status: str = ""


class MapRevision(msgspec.Struct, frozen=True):
    """The revision of a shard map that won."""

    deleted: bool = False


class DirectoryRow(msgspec.Struct, frozen=True):
    """A row of a listing of shard maps; `value` is None where there never was one."""

    key: str
    value: MapRevision | None = None


class Directory(msgspec.Struct, frozen=True):
    """Shard maps, by the names of their databases."""

    rows: list[DirectoryRow]


class RevisionsMissing(msgspec.Struct, frozen=True):
    """The revisions of a shard map that a node has, where it was asked for a later one."""

    possible_ancestors: list[str] = []
