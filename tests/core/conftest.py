"""Strategies for values of core, registered by type. Tests say `st.from_type(View)`.

The shard maps are those of a cluster at any moment of splitting its ranges. Each node has cut its own copies at its own
places and may have lost some, so ranges overlap and their hosts differ. Many cuts are exactly at the hash of a shared
document, or one beyond it, because an interval that is off by one shows there.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import strategies as st

from peruserd.core.cluster.views import View
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import HASH_SPACE, Range, ShardMap
from tests.core.desk import Desk

T = TypeVar("T")

# Sorted as text, not as numbers: n10 comes before n2.
NODES = ("n1", "n10", "n2", "n3", "n4")
SUFFIXES = (".1700000000", ".1800000000")
DOCUMENTS = (
    "_design/_auth",
    "org.couchdb.user:",
    "org.couchdb.user:a/b",
    "org.couchdb.user:josé 😀",
    *(f"org.couchdb.user:user-{number:04}" for number in range(28)),
)

_HASHES = [document_hash(document) for document in DOCUMENTS]
_PLACES = [
    *(eighth * HASH_SPACE // 8 for eighth in range(1, 8)),
    *(place + beyond for place in _HASHES for beyond in (0, 1)),
]


def _some(choices: Sequence[T], at_least: int = 0) -> st.SearchStrategy[list[T]]:
    """Some of the choices, in their order: one integer is quicker to draw than a set."""
    return st.integers(at_least, 2 ** len(choices) - 1).map(
        lambda chosen: [each for index, each in enumerate(choices) if chosen >> index & 1]
    )


_NAMES = _some(NODES, at_least=1)
_CUTS = st.lists(st.sampled_from(_PLACES), max_size=3, unique=True).map(sorted)


@st.composite
def _shard_maps(draw: st.DrawFn) -> ShardMap:
    hosts: dict[str, set[str]] = defaultdict(set)
    cuts = draw(_CUTS)
    for begin, end in pairwise([0, *draw(_CUTS), HASH_SPACE]):
        inside = [place for place in cuts if begin < place < end]
        for number, node in enumerate(draw(_NAMES)):
            pieces = list(pairwise([begin, *(draw(_some(inside)) if inside else ()), end]))
            # The first node has every piece, so that none is missing; the others may have given some away.
            kept = pieces if number == 0 or len(pieces) == 1 else draw(_some(pieces, at_least=1))
            for low, high in kept:
                hosts[str(Range(low, high - 1))].add(node)
    return ShardMap.build("_users", draw(st.sampled_from(SUFFIXES)), hosts)


@st.composite
def _ownerships(draw: st.DrawFn) -> Ownership:
    view = draw(st.from_type(View))
    assert view.shard_map is not None
    covered = draw(st.sampled_from(list(view.shard_map.hosts)))
    return Ownership.of(view.shard_map, covered, view.instances)


st.register_type_strategy(ShardMap, _shard_maps())
# At least one instance lives, on whichever nodes: hosts or not, connected or not.
st.register_type_strategy(
    View, st.builds(View, nodes=_NAMES.map(tuple), instances=_NAMES.map(tuple), shard_map=_shard_maps())
)
st.register_type_strategy(Ownership, _ownerships())


@pytest.fixture(scope="session")
def documents() -> tuple[str, ...]:
    """Ids of documents, spread over the hash space, at whose hashes the drawn shard maps are cut."""
    return DOCUMENTS


@pytest.fixture
def desk() -> Desk:
    """No document under way."""
    return Desk()
