"""Rows of lists of documents, as a whole database and a single copy give them alike."""

from typing import Any

from peruserd.simcluster import ids
from peruserd.simcluster.changes import with_identity
from peruserd.simcluster.revisions import Leaves


def row(document_id: str, leaves: Leaves, *, include_docs: bool) -> dict[str, Any]:
    """Return a document's row: its newest revision, whether that deletes it, and its content where that is wanted."""
    winner = leaves[0]
    shown = ids.shown(document_id)
    found: dict[str, Any] = {"id": shown, "key": shown, "value": {"rev": winner.rev}}
    if winner.deleted:
        found["value"]["deleted"] = True
    if include_docs:
        found["doc"] = None if winner.deleted else with_identity(document_id, winner.rev, winner.body)
    return found
