"""Shard map documents: the places of a database's ranges as a node knows them, and the join of two maps.

Pure. A database can be deleted and made again. Each such life has a suffix of its own, and never comes back after its
end. The layout of a life follows from its change log alone: copies added, copies removed, ranges split. The order of
the entries has no effect, because a removed or split copy stays gone. So two nodes with different logs agree after they
join them. A copy that is made again after its removal is another copy, with a higher `turn`.
"""

from functools import lru_cache
from hashlib import md5
from typing import Any

import msgspec

from peruserd.core.ownership.ranges import Range

parse_range = lru_cache(maxsize=4096)(Range.parse)


class Added(msgspec.Struct, frozen=True, order=True):
    """A copy of a range was made on a node: with the database (turn 0), or later."""

    covered: str
    node: str
    turn: int = 0

    def as_json(self) -> list[Any]:
        """Return the entry as it stands in the change log of CouchDB's document."""
        return ["add", self.covered, self.node]


class Removed(msgspec.Struct, frozen=True, order=True):
    """A node's copy of a range was taken out of the map."""

    covered: str
    node: str
    turn: int

    def as_json(self) -> list[Any]:
        """Return the entry as it stands in the change log of CouchDB's document."""
        return ["delete", self.covered, self.node]


class Split(msgspec.Struct, frozen=True, order=True):
    """A node split its copy of a range. The halves have the same turn."""

    covered: str
    halves: tuple[str, str]
    node: str
    turn: int = 0

    def as_json(self) -> list[Any]:
        """Return the entry as it stands in the change log of CouchDB's document."""
        return ["split", self.covered, list(self.halves), self.node]


Entry = Added | Removed | Split


class Life(msgspec.Struct, frozen=True):
    """One life of a database from its creation to its deletion: its first copies, and the changes after that."""

    suffix: str
    placement: tuple[Added, ...]
    changes: tuple[Entry, ...] = ()
    props: dict[str, Any] | None = None


class MapDocument:
    """The shard map of one database as a node knows it. It is immutable, and nodes with the same map share it."""

    __slots__ = ("current", "ended", "hosts", "lives", "name", "placed")

    def __init__(self, name: str, lives: tuple[Life, ...], ended: frozenset[str]) -> None:
        self.name = name
        self.lives = lives
        self.ended = ended
        living = [life for life in lives if life.suffix not in ended]
        self.current = max(living, key=_birth, default=None)
        self.placed = _placed(self.current) if self.current else {}
        self.hosts = _by_range(self.placed)

    @property
    def rev(self) -> str:
        """The revision, numbered by `events`."""
        state = repr((self.lives, sorted(self.ended))).encode()
        return f"{self.events}-{md5(state, usedforsecurity=False).hexdigest()}"

    @property
    def events(self) -> int:
        """The number of changes that the document has seen."""
        return len(self.lives) + len(self.ended) + sum(len(life.changes) for life in self.lives)

    @property
    def has_grown(self) -> bool:
        """Say whether copies were added after the database was made."""
        return self.current is not None and any(isinstance(each, Added) for each in self.current.changes)

    def hosts_of(self, position: int) -> set[str]:
        """Return the nodes that should hold a place of the hash space."""
        return {node for covered, nodes in self.hosts.items() if position in covered for node in nodes}

    def copies(self) -> int:
        """Return how many copies a range has."""
        return max((len(nodes) for nodes in self.hosts.values()), default=0)

    def path(self, covered: Range) -> str:
        """Return the name of a shard of the present life."""
        return f"shards/{covered}/{self.name}{self.current.suffix if self.current else ''}"

    def as_json(self) -> dict[str, Any]:
        """Return the document as CouchDB keeps it. The database must exist."""
        life = self.current
        if life is None:
            raise LookupError(self.name)
        by_node = {node: sorted(map(str, ranges)) for node, ranges in sorted(self.placed.items())}
        log: tuple[Entry, ...] = (*life.placement, *life.changes)
        document: dict[str, Any] = {
            "_id": self.name,
            "_rev": self.rev,
            "shard_suffix": list(life.suffix.encode()),
            "changelog": [entry.as_json() for entry in log],
            "by_node": by_node,
            "by_range": {str(covered): list(nodes) for covered, nodes in self.hosts.items()},
        }
        if life.props is not None:
            document["props"] = life.props
        return document

    def as_leaf(self) -> dict[str, Any]:
        """Return the newest revision of the document. After a deletion it still has the layout of the last life."""
        if self.current is not None:
            return self.as_json()
        last = MapDocument(self.name, self.lives, frozenset(each.suffix for each in self.lives[:-1]))
        return last.as_json() | {"_rev": self.rev, "_deleted": True}

    def recreated(self, life: Life) -> "MapDocument":
        """Return the document after the database was made again."""
        return MapDocument(self.name, (*self.lives, life), self.ended)

    def deleted(self) -> "MapDocument":
        """Return the document after the deletion of the database."""
        ended = self.ended | {self.current.suffix} if self.current else self.ended
        return MapDocument(self.name, self.lives, ended)

    def split(self, covered: Range, halves: tuple[Range, Range], node: str) -> "MapDocument":
        """Return the document after a node split its copy of a range. KeyError where it has none."""
        low, high = halves
        return self._changed(Split(str(covered), (str(low), str(high)), node, self.placed[node][covered]))

    def add(self, covered: Range, node: str) -> "MapDocument":
        """Return the document after a copy was made on a node that had none."""
        changes = self.current.changes if self.current else ()
        turn = 1 + sum(isinstance(each, Removed) and each.node == node for each in changes)
        return self._changed(Added(str(covered), node, turn))

    def remove(self, covered: Range, node: str) -> "MapDocument":
        """Return the document after the removal of a node's copy. KeyError where it has none."""
        return self._changed(Removed(str(covered), node, self.placed[node][covered]))

    def _changed(self, entry: Entry) -> "MapDocument":
        lives = tuple(
            msgspec.structs.replace(life, changes=(*life.changes, entry)) if life is self.current else life
            for life in self.lives
        )
        return MapDocument(self.name, lives, self.ended)


def join(ours: MapDocument | None, theirs: MapDocument) -> MapDocument:
    """Return the shard map that two nodes have after they meet, or `ours` itself where `theirs` adds nothing."""
    if ours is None or ours is theirs:
        return theirs
    lives = {life.suffix: life for life in ours.lives}
    for life in theirs.lives:
        known = lives.get(life.suffix)
        if known is None:
            lives[life.suffix] = life
        elif new := set(life.changes).difference(known.changes):
            lives[life.suffix] = msgspec.structs.replace(known, changes=_together(known.changes, life.changes, new))
    merged = tuple(sorted(lives.values(), key=_birth))
    ended = ours.ended | theirs.ended
    if merged == ours.lives and ended == ours.ended:
        return ours
    if merged == theirs.lives and ended == theirs.ended:
        return theirs
    return MapDocument(ours.name, merged, ended)


def _birth(life: Life) -> int:
    return int(life.suffix[1:])


def _together(ours: tuple[Entry, ...], theirs: tuple[Entry, ...], new: set[Entry]) -> tuple[Entry, ...]:
    if theirs[: len(ours)] == ours:
        return theirs
    # Entries from two nodes have no order of their own. This order is the same on every node.
    return tuple(sorted({*ours, *new}, key=_order))


def _order(entry: Entry) -> tuple[int, int, int, str, str]:
    covered = parse_range(entry.covered)
    # The wider range comes first, because a half can only be split after the range around it.
    return entry.turn, -covered.width, covered.begin, entry.node, type(entry).__name__


def _placed(life: Life) -> dict[str, dict[Range, int]]:
    """Return the turns of the copies that were made and are not gone, by node and range."""
    made: set[tuple[str, str, int]] = set()
    gone: set[tuple[str, str, int]] = set()
    for entry in (*life.placement, *life.changes):
        if isinstance(entry, Added):
            made.add((entry.node, entry.covered, entry.turn))
            continue
        gone.add((entry.node, entry.covered, entry.turn))
        if isinstance(entry, Split):
            made.update((entry.node, half, entry.turn) for half in entry.halves)
    placed: dict[str, dict[Range, int]] = {}
    for node, covered, turn in sorted(made - gone):
        placed.setdefault(node, {})[parse_range(covered)] = turn
    return placed


def _by_range(placed: dict[str, dict[Range, int]]) -> dict[Range, tuple[str, ...]]:
    nodes: dict[Range, list[str]] = {}
    for node, ranges in placed.items():
        for covered in ranges:
            nodes.setdefault(covered, []).append(node)
    return {covered: tuple(sorted(nodes[covered])) for covered in sorted(nodes)}
