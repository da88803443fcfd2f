"""Shard map documents: what every node believes of where a database's ranges are, and how two beliefs become one.

Pure. A database's name can live several lives, each with its own suffix; a life that ended never comes back. A life's
layout follows from its change log alone (copies added, ranges split), so two nodes that learned of different splits
agree again by putting their logs together.
"""

from functools import lru_cache
from hashlib import md5
from typing import Any

import msgspec

from peruserd.core.ranges import Range

parse_range = lru_cache(maxsize=4096)(Range.parse)


class Added(msgspec.Struct, frozen=True, order=True):
    """A copy of a range was made on a node."""

    covered: str
    node: str

    def as_json(self) -> list[Any]:
        """Return the entry as it stands in the change log of CouchDB's document."""
        return ["add", self.covered, self.node]


class Split(msgspec.Struct, frozen=True, order=True):
    """A node split its copy of a range."""

    covered: str
    halves: tuple[str, str]
    node: str

    def as_json(self) -> list[Any]:
        """Return the entry as it stands in the change log of CouchDB's document."""
        return ["split", self.covered, list(self.halves), self.node]


class Life(msgspec.Struct, frozen=True):
    """One life of a database, from its making to its deletion."""

    suffix: str
    added: tuple[Added, ...]
    splits: tuple[Split, ...] = ()
    props: dict[str, Any] | None = None


class MapDocument:
    """The shard map of one database as one node knows it; immutable, and shared by all nodes that know the same."""

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
        """The revision; its number counts what happened to the document."""
        events = len(self.lives) + len(self.ended) + sum(len(life.splits) for life in self.lives)
        state = repr((self.lives, sorted(self.ended))).encode()
        return f"{events}-{md5(state, usedforsecurity=False).hexdigest()}"

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
        """Return the document as CouchDB keeps it; the database must be alive."""
        life = self.current
        if life is None:
            raise LookupError(self.name)
        by_node = {node: sorted(map(str, ranges)) for node, ranges in sorted(self.placed.items())}
        log: tuple[Added | Split, ...] = (*life.added, *life.splits)
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

    def reborn(self, life: Life) -> "MapDocument":
        """Return the document with one more life."""
        return MapDocument(self.name, (*self.lives, life), self.ended)

    def dead(self) -> "MapDocument":
        """Return the document after its present life."""
        ended = self.ended | {self.current.suffix} if self.current else self.ended
        return MapDocument(self.name, self.lives, ended)

    def split(self, entry: Split) -> "MapDocument":
        """Return the document after a node split its copy of a range."""
        return MapDocument(
            self.name,
            tuple(
                msgspec.structs.replace(life, splits=(*life.splits, entry)) if life is self.current else life
                for life in self.lives
            ),
            self.ended,
        )


def join(ours: MapDocument | None, theirs: MapDocument) -> MapDocument:
    """Return what is known of a database when two nodes meet; `ours` itself where `theirs` adds nothing."""
    if ours is None or ours is theirs:
        return theirs
    lives = {life.suffix: life for life in ours.lives}
    for life in theirs.lives:
        known = lives.get(life.suffix)
        if known is None:
            lives[life.suffix] = life
        elif new := tuple(entry for entry in life.splits if entry not in known.splits):
            # Sorted by width, widest first: a half can only be split after the range it came from.
            splits = sorted((*known.splits, *new), key=_split_order)
            lives[life.suffix] = msgspec.structs.replace(known, splits=tuple(splits))
    merged = tuple(sorted(lives.values(), key=_birth))
    ended = ours.ended | theirs.ended
    if merged == ours.lives and ended == ours.ended:
        return ours
    if merged == theirs.lives and ended == theirs.ended:
        return theirs
    return MapDocument(ours.name, merged, ended)


def _birth(life: Life) -> int:
    return int(life.suffix[1:])


def _split_order(entry: Split) -> tuple[int, int, str]:
    covered = parse_range(entry.covered)
    return covered.begin - covered.end, covered.begin, entry.node


def _placed(life: Life) -> dict[str, set[Range]]:
    placed: dict[str, set[Range]] = {}
    for entry in life.added:
        placed.setdefault(entry.node, set()).add(parse_range(entry.covered))
    for split in life.splits:
        placed[split.node].remove(parse_range(split.covered))
        placed[split.node].update(map(parse_range, split.halves))
    return placed


def _by_range(placed: dict[str, set[Range]]) -> dict[Range, tuple[str, ...]]:
    nodes: dict[Range, list[str]] = {}
    for node, ranges in placed.items():
        for covered in ranges:
            nodes.setdefault(covered, []).append(node)
    return {covered: tuple(sorted(nodes[covered])) for covered in sorted(nodes)}
