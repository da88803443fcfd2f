"""The nodes that get the copies of a new database, and the suffix of its shard files. Pure."""

from collections.abc import Iterable, Sequence

from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import split_evenly
from peruserd.simcluster.model.shard_maps import Added, MapDocument


def place_copies(name: str, nodes: Sequence[str], *, q: int, n: int) -> tuple[Added, ...]:
    """Return the copies of `q` ranges, `n` of each range, or as many as there are nodes.

    The first node follows from the database's name, and each next range begins one node further.
    """
    count = len(nodes)
    start = document_hash(name)
    return tuple(
        sorted(
            Added(str(covered), nodes[(start + index + copy) % count])
            for index, covered in enumerate(split_evenly(q))
            for copy in range(min(n, count))
        )
    )


def fresh_suffix(known: Iterable[MapDocument], now: float) -> str:
    """Return the suffix of a new database: the time in seconds, or a later time where this one was used."""
    born = [int(life.suffix[1:]) for document in known for life in document.lives]
    return f".{max([int(now), *(second + 1 for second in born)])}"
