"""Reads and writes of documents through a node: quorums, local documents, security objects. Pure.

All reachable copies together decide about a write, so nodes that see each other behave as one. Copies that cannot be
reached now, or are late, get the result by replication.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from peruserd.core.ownership.ranges import Range
from peruserd.simcluster.model import errors, ids, lost
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import LocalDocument, ShardCopy
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.revisions import (
    ConflictError,
    Leaves,
    Revision,
    choose,
    continued,
    edit,
    is_known,
    join,
    same,
)
from peruserd.simcluster.model.security_objects import fault_of
from peruserd.simcluster.model.shard_maps import MapDocument

LOCAL_PREFIX = "_local/"

Validation = Callable[[dict[str, Any] | None], None]
"""Refuses a write where it should; is given the content of what is written over, None where there is none."""


def read(model: ClusterModel, at: Node, name: str, document_id: str) -> Leaves | None:
    """Return a document's leaves in all reachable copies together. None where it never existed."""
    document = model.map_of(at, name)
    return _together(model.copies_at(at, document.name, ids.place(document_id)), document_id)


def open_document(model: ClusterModel, at: Node, name: str, document_id: str, r: int | None = None) -> Leaves | None:
    """Return a document's leaves as a clustered read of CouchDB chooses them. None where it never existed.

    The first `r` copies that agree decide. Without `r` it is a majority. Where fewer agree, a copy with the document
    wins over a copy with its deletion (`fabric_doc_open`). Copies that lack the result get it then. With a replication
    delay (`delayed`), all copies count as equal, apart from those that were paused.
    """
    document = model.map_of(at, name)
    copies = model.copies_at(at, name, ids.place(document_id))
    if model.delayed:
        current = [copy for copy in copies if not model.is_paused(copy, name)]
        known = _together(current, document_id)
        replies = [copy.leaves(document_id) if model.is_paused(copy, name) else known for copy in copies]
    else:
        replies = [copy.leaves(document_id) for copy in copies]
    if all(same(reply, replies[0]) for reply in replies):
        return replies[0]
    model.random.shuffle(replies)
    n = document.copies()
    chosen, heard = choose(replies, min(n, r or n // 2 + 1))
    if not model.delayed:
        for copy in copies:
            for leaves in heard:
                if not model.is_paused(copy, name):
                    copy.merge(document_id, leaves)
    return chosen


def write(
    model: ClusterModel,
    at: Node,
    name: str,
    document_id: str,
    rev: str | None,
    body: dict[str, Any],
    *,
    deleted: bool = False,
    validate: Validation | None = None,
) -> tuple[str, bool]:
    """Write one document. Return its new revision, and whether a majority of its copies has it.

    Refuses with a conflict where `rev` is not the present revision. Otherwise `validate` gets the content before the
    write.
    """
    document = model.map_of(at, name)
    position = ids.place(document_id)
    copies = _writable(model, at, name, position)
    before = _together(copies, document_id)
    try:
        parent = continued(before, rev)
    except ConflictError as error:
        raise errors.conflict() from error
    # A document that is made again after its deletion is checked like a new one.
    if validate is not None:
        validate(parent.body if parent and rev is not None else None)
    leaves = edit(before, rev, body, deleted=deleted)
    made = leaves[0].rev if len(leaves) == 1 else _made(leaves, before)
    return made, _put(model, document, document_id, copies, leaves)


def replicate(
    model: ClusterModel,
    at: Node,
    name: str,
    document_id: str,
    revision: Revision,
    validate: Validation | None = None,
) -> bool:
    """Store a revision that was made elsewhere (`new_edits=false`). Say whether a majority has it.

    `validate` gets the nearest stored ancestor, unless the revision is known already.
    """
    document = model.map_of(at, name)
    copies = _writable(model, at, name, ids.place(document_id))
    before = _together(copies, document_id)
    if before is None or not is_known(before, revision.rev):
        ancestor = next((leaf for leaf in before or () if leaf.rev in revision.ancestors), None)
        if validate is not None:
            validate(ancestor.body if ancestor else None)
        if ancestor is not None:
            known = revision.ancestors[: revision.ancestors.index(ancestor.rev) + 1]
            revision = msgspec.structs.replace(revision, ancestors=(*known, *ancestor.ancestors))
    return _put(model, document, document_id, copies, (revision,))


def read_local(model: ClusterModel, at: Node, name: str, document_id: str) -> LocalDocument:
    """Return a local document from any one reachable copy. Refuses where this copy has none."""
    model.map_of(at, name)
    try:
        copies = model.copies_at(at, name, ids.place(document_id))
    except errors.RefusalError as error:
        raise errors.read_failure() from error
    found = model.random.choice(copies).local.get(document_id)
    if found is None:
        raise errors.no_document()
    return found


def write_local(
    model: ClusterModel, at: Node, name: str, document_id: str, rev: str | None, body: dict[str, Any]
) -> tuple[LocalDocument, bool]:
    """Write a local document on every reachable copy. Return it, and whether they are a majority.

    The write always succeeds. Without `rev` the document's count of writes begins again. It is never replicated.
    """
    document = model.map_of(at, name)
    position = ids.place(document_id)
    copies = model.copies_at(at, name, position)
    made = LocalDocument(_writes(rev) + 1, body)
    for copy in copies:
        copy.local[document_id] = made
    return made, _majority(len(copies), len(document.hosts_of(position)))


def delete_local(model: ClusterModel, at: Node, name: str, document_id: str) -> bool:
    """Remove a local document from every reachable copy. Refuses where no copy has it."""
    document = model.map_of(at, name)
    position = ids.place(document_id)
    copies = model.copies_at(at, name, position)
    if not [copy for copy in copies if copy.local.pop(document_id, None)]:
        raise errors.no_document()
    return _majority(len(copies), len(document.hosts_of(position)))


def list_local(model: ClusterModel, at: Node, name: str) -> list[tuple[str, LocalDocument]]:
    """Return the local documents of any one copy of each range, sorted by id."""
    model.map_of(at, name)
    copies = model.covering(at, name, lambda _: model.random.getrandbits(16))
    return sorted(pair for copy in copies for pair in copy.local.items())


def read_security(model: ClusterModel, at: Node, name: str) -> Any:
    """Return the security object of one copy, the node's own where it has one. Other copies may have other ones."""
    model.map_of(at, name)
    lost.make_again(model, [at], name)
    return model.covering(at, name)[-1].security


def write_security(model: ClusterModel, at: Node, name: str, security: Any) -> None:
    """Write the security object to every reachable copy. Refuses where these are no majority of each range.

    Without a majority the write is refused, but the reachable copies stay changed. The majority's object wins when the
    nodes meet. So a refused write can be undone then, and an accepted write is completed.
    """
    document = model.map_of(at, name)
    if not isinstance(security, dict) or fault_of(security) is not None:
        raise errors.no_majority()
    lost.make_again(model, model.reachable(at), name)
    reached: dict[Range, int] = {}
    for copy in model.copies_of(at, name):
        copy.set_security(security)
        reached[copy.range] = reached.get(copy.range, 0) + 1
    if sum(reached.values()) < sum(map(len, document.hosts.values())):
        model.note_differing_security(name)
    if any(not _majority(reached.get(covered, 0), len(hosts)) for covered, hosts in document.hosts.items()):
        raise errors.no_majority()


def _writable(model: ClusterModel, at: Node, name: str, position: int) -> list[ShardCopy]:
    """Return the copies that a write reaches. Refuses where there is none."""
    copies = [copy for copy in model.copies_at(at, name, position) if not model.is_paused(copy, name)]
    if not copies:
        raise errors.no_progress()
    return copies


def _put(model: ClusterModel, document: MapDocument, document_id: str, copies: list[ShardCopy], leaves: Leaves) -> bool:
    """Write leaves to copies, and let the other copies get them later. Say whether these copies are a majority."""
    for copy in copies[:1] if model.delayed else copies:
        copy.merge(document_id, leaves)
    hosts = len(document.hosts_of(ids.place(document_id)))
    if len(copies) < hosts or model.delayed:
        model.spread(document.name, document_id, copies[0])
    model.note_replicated_document(document.name)
    return _majority(len(copies), hosts)


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
