"""Rows of lists of documents and of local documents, alike for a whole database and for a single copy."""

from typing import Any

from peruserd.simcluster.model import ids
from peruserd.simcluster.model.changes import with_identity
from peruserd.simcluster.model.copies import LocalDocument
from peruserd.simcluster.model.revisions import Leaves


def row(document_id: str, leaves: Leaves, *, include_docs: bool) -> dict[str, Any]:
    """Return a document's row: its newest revision, a mark for a deletion, and its content on request."""
    winner = leaves[0]
    shown = ids.shown(document_id)
    found: dict[str, Any] = {"id": shown, "key": shown, "value": {"rev": winner.rev}}
    if winner.deleted:
        found["value"]["deleted"] = True
    if include_docs:
        found["doc"] = None if winner.deleted else with_identity(document_id, winner.rev, winner.body)
    return found


def local_row(document_id: str, local: LocalDocument, *, include_docs: bool) -> dict[str, Any]:
    """Return a local document's row: its revision, and its content on request."""
    shown = ids.shown(document_id)
    found: dict[str, Any] = {"id": shown, "key": shown, "value": {"rev": local.rev}}
    if include_docs:
        found["doc"] = with_identity(document_id, local.rev, local.body)
    return found
