"""The answers of the copies of one user document, and the judgement whether the document exists.

A clustered read of CouchDB cannot confirm a deletion. It prefers a live copy over a tombstone, whichever is older, and
never says how many copies answered (measured). So each copy is read separately, and this module judges the answers.

Revision numbers are never compared, because anybody with write access can give a document the revision `999999-…`. The
judgement depends on the revisions that each copy *knows*:

- A copy is behind if another copy has this copy's winner in its history. The answer of a copy that is behind does not
  count.
- A copy that never received the document counts as an answer, but says nothing about the document.
- If two copies do not know each other's winners, and one winner is a tombstone, only replication can decide.
"""

from collections.abc import Iterable
from enum import Enum

import msgspec

from peruserd.core.common.majority import is_majority


class DocumentState(Enum):
    """The state of a document, as its copies know it together."""

    LIVE = "live"
    DELETED = "deleted"
    MISSING = "missing"  # no copy ever received it
    UNCLEAR = "unclear"  # too few copies answered, or they disagree: to be asked again


class Winner(msgspec.Struct, frozen=True):
    """The revision of a document that one copy shows."""

    rev: str
    deleted: bool = False


class Reading(msgspec.Struct, frozen=True):
    """The answer of one copy. `winner` is None if the copy never received the document.

    `knows` holds the winners of other copies that are in this copy's history.
    """

    node: str
    winner: Winner | None
    knows: frozenset[str] = frozenset()


class Evidence(msgspec.Struct, frozen=True):
    """The answers of the readable copies. `hosts` are all nodes of the document's range in the shard map.

    `followed` is the node whose feed showed the document, if any.
    """

    hosts: frozenset[str]
    readings: tuple[Reading, ...]
    followed: str | None = None

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the nodes whose copy could not be read, sorted."""
        return tuple(sorted(self.hosts.difference(each.node for each in self.readings)))

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the hosts have answered."""
        return is_majority(len(self.hosts.intersection(each.node for each in self.readings)), len(self.hosts))

    def unknown_winners(self, reading: Reading) -> frozenset[str]:
        """Return the winners of other copies that this copy has to be asked about."""
        return _revisions(self.readings) - _revisions((reading,))


class Verdict(msgspec.Struct, frozen=True):
    """The judgement on all answers. `rev` is the winning revision. `why` says in words why a state is unclear.

    `behind` are the nodes whose copy still shows a deleted document as live, sorted. A copy shows only one revision. It
    can have a second live revision that no other copy has received yet.
    """

    state: DocumentState
    rev: str | None = None
    why: str = ""
    silent: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()


def judge(evidence: Evidence) -> Verdict:
    """Return whether the document exists.

    Invariant: LIVE or DELETED needs the answers of a majority of the hosts. Each copy with the opposite state must be
    behind: another copy has its winner in its history.
    """
    silent = evidence.silent
    if not evidence.has_majority:
        answered = len(evidence.hosts) - len(silent)
        why = f"{answered} of {len(evidence.hosts)} nodes that hold the document have answered"
        return Verdict(DocumentState.UNCLEAR, why=why, silent=silent)
    winners = {each.winner for each in evidence.readings if each.winner is not None}
    if not winners and evidence.followed in silent:
        # Only that copy can say whether the row belongs to another document.
        why = f"{evidence.followed}, whose copy showed the document, has not answered"
        return Verdict(DocumentState.UNCLEAR, why=why, silent=silent)
    if not winners:
        return Verdict(DocumentState.MISSING, silent=silent)
    remaining = [each for each in winners if not _is_outlived(each, evidence.readings)]
    deleted = {each.deleted for each in remaining}
    if len(deleted) != 1:
        return Verdict(DocumentState.UNCLEAR, why="the copies of the document disagree", silent=silent)
    rev = min(each.rev for each in remaining)
    if deleted == {False}:
        return Verdict(DocumentState.LIVE, rev, silent=silent)
    return Verdict(DocumentState.DELETED, rev, silent=silent, behind=_nodes_that_show_it_live(evidence))


def _is_outlived(winner: Winner, readings: Iterable[Reading]) -> bool:
    """Say whether a copy with another winner has this revision in its history."""
    return any(each.winner != winner and winner.rev in each.knows for each in readings)


def _nodes_that_show_it_live(evidence: Evidence) -> tuple[str, ...]:
    shown = {each.node for each in evidence.readings if each.winner is not None and not each.winner.deleted}
    return tuple(sorted(shown))


def _revisions(readings: Iterable[Reading]) -> frozenset[str]:
    return frozenset(each.winner.rev for each in readings if each.winner is not None)
