"""Reading and writing documents through a node: quorums, local documents, security objects. Pure.

A write is judged by what all reachable copies know together, so nodes that see each other behave as one; copies that
cannot be reached, or that get writes late, are owed the result.
"""

from typing import Any

from peruserd.core.hashing import document_hash
from peruserd.core.ranges import Range
from peruserd.simcluster import errors
from peruserd.simcluster.copies import LocalDocument, ShardCopy
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.revisions import ConflictError, Leaves, edit, join

LOCAL_PREFIX = "_local/"


def read(model: ClusterModel, at: Node, name: str, document_id: str) -> Leaves | None:
    """Return a document's leaves as the reachable copies know them together, None where it never was."""
    document = model.map_of(at, name)
    return _together(model.copies_at(at, document.name, document_hash(document_id)), document_id)


def write(
    model: ClusterModel,
    at: Node,
    name: str,
    document_id: str,
    rev: str | None,
    body: dict[str, Any],
    *,
    deleted: bool = False,
) -> tuple[str, bool]:
    """Write one document; return its new revision and whether a majority of its copies has it.

    Refuses with a conflict where `rev` is not what is there.
    """
    document = model.map_of(at, name)
    position = document_hash(document_id)
    copies = model.copies_at(at, name, position)
    before = _together(copies, document_id)
    try:
        leaves = edit(before, rev, body, deleted=deleted)
    except ConflictError as error:
        raise errors.conflict() from error
    made = leaves[0].rev if len(leaves) == 1 else _made(leaves, before)
    for copy in copies[:1] if model.delayed else copies:
        copy.merge(document_id, leaves)
    hosts = len(document.hosts_of(position))
    if len(copies) < hosts or model.delayed:
        model.spread(name, document_id, copies[0])
    return made, len(copies) >= hosts // 2 + 1


def counts(model: ClusterModel, at: Node, name: str) -> tuple[int, int]:
    """Return how many documents a database has, and how many deleted ones."""
    copies = model.covering(at, model.map_of(at, name).name)
    return sum(copy.doc_count for copy in copies), sum(copy.deleted_count for copy in copies)


def read_local(model: ClusterModel, at: Node, name: str, document_id: str) -> LocalDocument:
    """Return a local document as one reachable copy has it, whichever answers; refuses where that has none."""
    model.map_of(at, name)
    try:
        copies = model.copies_at(at, name, document_hash(document_id))
    except errors.RefusalError as error:
        raise errors.read_failure() from error
    found = model.random.choice(copies).local.get(document_id)
    if found is None:
        raise errors.no_document()
    return found


def write_local(
    model: ClusterModel, at: Node, name: str, document_id: str, rev: str | None, body: dict[str, Any]
) -> tuple[LocalDocument, bool]:
    """Write a local document on every reachable copy; return it and whether they are a majority.

    It always succeeds: without `rev` its count of writes begins again. It is never replicated.
    """
    document = model.map_of(at, name)
    position = document_hash(document_id)
    copies = model.copies_at(at, name, position)
    made = LocalDocument(_writes(rev) + 1, body)
    for copy in copies:
        copy.local[document_id] = made
    return made, _majority(len(copies), len(document.hosts_of(position)))


def delete_local(model: ClusterModel, at: Node, name: str, document_id: str) -> bool:
    """Remove a local document from every reachable copy; refuses where none has it."""
    document = model.map_of(at, name)
    position = document_hash(document_id)
    copies = model.copies_at(at, name, position)
    if not [copy for copy in copies if copy.local.pop(document_id, None)]:
        raise errors.no_document()
    return _majority(len(copies), len(document.hosts_of(position)))


def list_local(model: ClusterModel, at: Node, name: str) -> list[tuple[str, LocalDocument]]:
    """Return the local documents of one copy of each range, whichever answers, sorted by id."""
    model.map_of(at, name)
    copies = model.covering(at, name, lambda _: model.random.getrandbits(16))
    return sorted(pair for copy in copies for pair in copy.local.items())


def read_security(model: ClusterModel, at: Node, name: str) -> Any:
    """Return the security object of one copy, the node's own where it has one; others may disagree."""
    model.map_of(at, name)
    return model.covering(at, name)[-1].security


def write_security(model: ClusterModel, at: Node, name: str, security: Any) -> None:
    """Write the security object to every reachable copy; refuses where those are no majority of each range.

    A refusal for want of a majority leaves the reachable copies changed. Once the nodes meet, what the majority has
    wins, so what was refused can be undone, and what was accepted is completed.
    """
    document = model.map_of(at, name)
    if not well_formed_security(security):
        raise errors.no_majority()
    reached: dict[Range, int] = {}
    for copy in model.copies_of(at, name):
        copy.set_security(security)
        reached[copy.range] = reached.get(copy.range, 0) + 1
    if sum(reached.values()) < sum(map(len, document.hosts.values())):
        model.leave_apart(name)
    if any(not _majority(reached.get(covered, 0), len(hosts)) for covered, hosts in document.hosts.items()):
        raise errors.no_majority()


def well_formed_security(security: Any) -> bool:
    """Say whether every part that CouchDB looks into has the shape it needs; unknown keys are welcome."""
    if not isinstance(security, dict):
        return False
    for part in ("admins", "members"):
        group = security.get(part, {})
        if not isinstance(group, dict):
            return False
        for key in ("names", "roles"):
            entries = group.get(key, [])
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                return False
    return True


def _together(copies: list[ShardCopy], document_id: str) -> Leaves | None:
    known: Leaves | None = None
    for copy in copies:
        leaves = copy.leaves(document_id)
        if leaves is not None and leaves is not known:
            known = join(known, leaves) if known else leaves
    return known


def _made(leaves: Leaves, before: Leaves | None) -> str:
    """Return the revision an edit added, where a conflict keeps it from being the only leaf."""
    known = {leaf.rev for leaf in before or ()}
    return next((leaf.rev for leaf in leaves if leaf.rev not in known), leaves[0].rev)


def _writes(rev: str | None) -> int:
    digits = (rev or "0-0").partition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _majority(reached: int, hosts: int) -> bool:
    return reached >= hosts // 2 + 1
