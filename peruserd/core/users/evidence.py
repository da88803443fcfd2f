"""The answers of the copies of one user document, and the judgement whether the document is there.

CouchDB's own clustered read cannot confirm a deletion. It prefers a live copy over a tombstone, whichever is older, and
never says how many copies answered (measured). So each copy is read by itself, and this module judges the answers.

Revisions are never compared by their numbers, because everybody who may write a document can give it `999999-…`. The
judgement goes by which copy *knows* which revision:

- A copy whose winner is another copy's past is behind, and its answer falls.
- A copy that never heard of the document says nothing, and has answered all the same.
- Where two copies do not know each other's winners, and one of the two is a tombstone, only replication can tell.
"""

from collections.abc import Iterable
from enum import Enum

import msgspec


class DocumentState(Enum):
    """The state of a document, as its copies know it together."""

    LIVE = "live"
    DELETED = "deleted"
    MISSING = "missing"  # no copy ever heard of it
    UNCLEAR = "unclear"  # too few copies answered, or they disagree: to be asked again


class Winner(msgspec.Struct, frozen=True):
    """The revision of a document that one copy shows."""

    rev: str
    deleted: bool = False


class Reading(msgspec.Struct, frozen=True):
    """The answer of one copy: `winner` is None where it never heard of the document.

    `knows` are those of the other copies' winners that this copy has in its own history.
    """

    node: str
    winner: Winner | None
    knows: frozenset[str] = frozenset()


class Evidence(msgspec.Struct, frozen=True):
    """The answers of the copies that could be read; `hosts` are all nodes that the shard map lists for the document.

    `followed` is the node whose copy showed the document, where one did.
    """

    hosts: frozenset[str]
    readings: tuple[Reading, ...]
    followed: str | None = None

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the nodes of which no copy could be read, sorted."""
        return tuple(sorted(self.hosts.difference(each.node for each in self.readings)))

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the hosts have answered."""
        return 2 * len(self.hosts.intersection(each.node for each in self.readings)) > len(self.hosts)

    def unknown_winners(self, reading: Reading) -> frozenset[str]:
        """Return the winners of other copies that this copy has to be asked about."""
        return _revisions(self.readings) - _revisions((reading,))


class Verdict(msgspec.Struct, frozen=True):
    """The judgement on all answers: `rev` is the revision that won, `why` a sentence where nothing is clear.

    `behind` are the nodes whose copy still shows a document live that is deleted, sorted. A copy shows one revision
    alone, so behind that one it can have another live one, which no other copy has yet.
    """

    state: DocumentState
    rev: str | None = None
    why: str = ""
    silent: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()


def judge(evidence: Evidence) -> Verdict:
    """Return whether the document is there.

    Invariant: LIVE and DELETED are only said with the answers of a majority of the hosts, and never while an answer
    contradicts them that no other copy has outlived.
    """
    if not evidence.has_majority:
        answered = len(evidence.hosts) - len(evidence.silent)
        why = f"{answered} of {len(evidence.hosts)} nodes that hold the document have answered"
        return Verdict(DocumentState.UNCLEAR, why=why, silent=evidence.silent)
    winners = {each.winner for each in evidence.readings if each.winner is not None}
    if not winners and evidence.followed in evidence.silent:
        # Only the copy that showed the document can say whether it was another one's row.
        why = f"{evidence.followed}, whose copy showed the document, has not answered"
        return Verdict(DocumentState.UNCLEAR, why=why, silent=evidence.silent)
    if not winners:
        return Verdict(DocumentState.MISSING, silent=evidence.silent)
    standing = [each for each in winners if not _is_outlived(each, evidence.readings)]
    deleted = {each.deleted for each in standing}
    if len(deleted) != 1:
        return Verdict(DocumentState.UNCLEAR, why="the copies of the document disagree", silent=evidence.silent)
    rev = min(each.rev for each in standing)
    if deleted == {False}:
        return Verdict(DocumentState.LIVE, rev, silent=evidence.silent)
    return Verdict(DocumentState.DELETED, rev, silent=evidence.silent, behind=_nodes_that_show_it_live(evidence))


def _is_outlived(winner: Winner, readings: Iterable[Reading]) -> bool:
    """Say whether a copy that shows something else has this revision in its history."""
    return any(each.winner != winner and winner.rev in each.knows for each in readings)


def _nodes_that_show_it_live(evidence: Evidence) -> tuple[str, ...]:
    shown = {each.node for each in evidence.readings if each.winner is not None and not each.winner.deleted}
    return tuple(sorted(shown))


def _revisions(readings: Iterable[Reading]) -> frozenset[str]:
    return frozenset(each.winner.rev for each in readings if each.winner is not None)
