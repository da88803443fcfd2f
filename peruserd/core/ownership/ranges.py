"""Ranges of the hash space, and the shard map: which nodes host which range."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Self

import msgspec

from peruserd.core.common.majority import is_majority

HASH_SPACE: Final = 1 << 32

_RANGE: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})")


class Range(msgspec.Struct, frozen=True, order=True):
    """An interval of the hash space, both ends included, as CouchDB writes it: `00000000-7fffffff`."""

    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a range as CouchDB writes it; raises ValueError for any other text."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a range such as 00000000-7fffffff")
        begin, end = (int(digits, 16) for digits in match.groups())
        if begin > end:
            raise ValueError(f"the range {text!r} ends before it begins")
        return cls(begin, end)

    def __str__(self) -> str:
        return f"{self.begin:08x}-{self.end:08x}"

    def __contains__(self, position: int) -> bool:
        return self.begin <= position <= self.end

    @property
    def width(self) -> int:
        """Return how many positions the range covers."""
        return self.end - self.begin + 1

    def holds(self, other: "Range") -> bool:
        """Say whether this range contains all of `other`."""
        return self.begin <= other.begin and other.end <= self.end

    def overlaps(self, other: "Range") -> bool:
        """Say whether a document can belong to both ranges."""
        return self.begin <= other.end and other.begin <= self.end


WHOLE_SPACE: Final = Range(0, HASH_SPACE - 1)


class ShardMap(msgspec.Struct, frozen=True):
    """The nodes that host each range of one database.

    `suffix` is the end of the shards' file names, a dot and digits. It is new each time a database of that name is
    created, so it tells one life of the database from the next. `hosts` has the nodes by range, ascending and sorted by
    name. Ranges overlap while they are being split, because each node splits its own copy at its own moment.
    """

    database: str
    suffix: str
    hosts: dict[Range, tuple[str, ...]]

    @classmethod
    def build(cls, database: str, suffix: str, hosts: Mapping[str, Iterable[str]]) -> Self:
        """Make a shard map from CouchDB's `{range: [node]}`; raises ValueError if a range cannot be read."""
        parsed = {Range.parse(text): tuple(sorted(set(nodes))) for text, nodes in hosts.items()}
        return cls(database, suffix, dict(sorted(parsed.items())))

    def ranges_holding(self, position: int) -> tuple[Range, ...]:
        """Return the ranges that hold a position of the hash space, ascending; several while ranges are split."""
        return tuple(each for each in self.hosts if position in each)

    def hosts_of(self, position: int) -> tuple[str, ...]:
        """Return all nodes that host a position of the hash space, sorted by name."""
        return tuple(sorted({node for each in self.ranges_holding(position) for node in self.hosts[each]}))

    def without_majority(self, silent: Collection[tuple[Range, str]]) -> tuple[Range, ...]:
        """Return the ranges without a majority of their copies, ascending. `silent` are the copies that are away."""
        return tuple(
            each
            for each, nodes in self.hosts.items()
            if not is_majority(sum((each, node) not in silent for node in nodes), len(nodes))
        )

    def holes(self) -> tuple[Range, ...]:
        """Return the parts of the hash space that no range covers; empty for a complete shard map."""
        holes = []
        free = 0
        for each in self.hosts:
            if each.begin > free:
                holes.append(Range(free, each.begin - 1))
            free = max(free, each.end + 1)
        if free < HASH_SPACE:
            holes.append(Range(free, HASH_SPACE - 1))
        return tuple(holes)


def split_evenly(count: int) -> tuple[Range, ...]:
    """Return `count` ranges that cover the hash space, as mem3 cuts it for `q=count`; ValueError if `count` < 1."""
    if count < 1:
        raise ValueError("a database has at least one range")
    width = HASH_SPACE // count
    begins = [index * width for index in range(count)]
    ends = [begin - 1 for begin in begins[1:]] + [HASH_SPACE - 1]
    return tuple(Range(begin, end) for begin, end in zip(begins, ends, strict=True))
