"""Reading and writing documents through a node: quorums, local documents, security objects. Pure.

A write is judged by what all reachable copies know together, so nodes that see each other behave as one; copies that
cannot be reached, or that get writes late, are owed the result.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from peruserd.core.ownership.ranges import Range
from peruserd.simcluster import errors, ids
from peruserd.simcluster.copies import LocalDocument, ShardCopy
from peruserd.simcluster.maps import MapDocument
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.revisions import ConflictError, Leaves, Revision, choose, continued, edit, is_known, join, same
from peruserd.simcluster.securities import fault_of

LOCAL_PREFIX = "_local/"

Validation = Callable[[dict[str, Any] | None], None]
"""Refuses a write where it should; is given the content of what is written over, None where there is none."""


def read(model: ClusterModel, at: Node, name: str, document_id: str) -> Leaves | None:
    """Return a document's leaves as the reachable copies know them together, None where it never was."""
    document = model.map_of(at, name)
    return _together(model.copies_at(at, document.name, ids.place(document_id)), document_id)


def open_document(model: ClusterModel, at: Node, name: str, document_id: str, r: int | None = None) -> Leaves | None:
    """Return a document's leaves as a clustered read of CouchDB chooses them, None where it never was.

    The first `r` copies that agree decide, or a majority of them where nothing is said. Where fewer agree, a copy in
    which the document lives wins over one that knows it was deleted (`fabric_doc_open`). Copies that lack what was read
    get it then. While writes reach copies late (`delayed`), copies that are not kept behind answer as one.
    """
    document = model.map_of(at, name)
    copies = model.copies_at(at, name, ids.place(document_id))
    if model.delayed:
        current = [copy for copy in copies if not model.is_held(copy, name)]
        known = _together(current, document_id)
        replies = [copy.leaves(document_id) if model.is_held(copy, name) else known for copy in copies]
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
                if not model.is_held(copy, name):
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
    """Write one document; return its new revision and whether a majority of its copies has it.

    Refuses with a conflict where `rev` is not what is there. `validate` is asked then, with what was there before.
    """
    document = model.map_of(at, name)
    position = ids.place(document_id)
    copies = _writable(model, at, name, position)
    before = _together(copies, document_id)
    try:
        parent = continued(before, rev)
    except ConflictError as error:
        raise errors.conflict() from error
    # A writer who makes a deleted document again continues it without knowing it.
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
    """Take in a revision that was made elsewhere, whatever is there (`new_edits=false`); say whether a majority has it.

    `validate` is asked with the nearest ancestor that is there, unless the revision is known already.
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
    """Return a local document as one reachable copy has it, whichever answers; refuses where that has none."""
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
    """Write a local document on every reachable copy; return it and whether they are a majority.

    It always succeeds: without `rev` its count of writes begins again. It is never replicated.
    """
    document = model.map_of(at, name)
    position = ids.place(document_id)
    copies = model.copies_at(at, name, position)
    made = LocalDocument(_writes(rev) + 1, body)
    for copy in copies:
        copy.local[document_id] = made
    return made, _majority(len(copies), len(document.hosts_of(position)))


def delete_local(model: ClusterModel, at: Node, name: str, document_id: str) -> bool:
    """Remove a local document from every reachable copy; refuses where none has it."""
    document = model.map_of(at, name)
    position = ids.place(document_id)
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
    if not isinstance(security, dict) or fault_of(security) is not None:
        raise errors.no_majority()
    reached: dict[Range, int] = {}
    for copy in model.copies_of(at, name):
        copy.set_security(security)
        reached[copy.range] = reached.get(copy.range, 0) + 1
    if sum(reached.values()) < sum(map(len, document.hosts.values())):
        model.leave_apart(name)
    if any(not _majority(reached.get(covered, 0), len(hosts)) for covered, hosts in document.hosts.items()):
        raise errors.no_majority()


def _writable(model: ClusterModel, at: Node, name: str, position: int) -> list[ShardCopy]:
    """Return the copies that a write reaches; refuses where there is none."""
    copies = [copy for copy in model.copies_at(at, name, position) if not model.is_held(copy, name)]
    if not copies:
        raise errors.no_progress()
    return copies


def _put(model: ClusterModel, document: MapDocument, document_id: str, copies: list[ShardCopy], leaves: Leaves) -> bool:
    """Put leaves on copies, let the others get them later; say whether these copies are a majority."""
    for copy in copies[:1] if model.delayed else copies:
        copy.merge(document_id, leaves)
    hosts = len(document.hosts_of(ids.place(document_id)))
    if len(copies) < hosts or model.delayed:
        model.spread(document.name, document_id, copies[0])
    model.note_push(document.name)
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
