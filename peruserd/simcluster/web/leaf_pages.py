"""Pages that show or remove single leaves of a document: conflicts, all leaves at once, purging."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.changes import with_identity
from peruserd.simcluster.model.revisions import Leaves
from peruserd.simcluster.web.exchange import Exchange, reply


def every_leaf(document_id: str, leaves: Leaves) -> web.Response:
    """Give every leaf, deletions too."""
    return reply([{"ok": with_identity(document_id, each.rev, each.body, deleted=each.deleted)} for each in leaves])


def add_conflicts(rows: Sequence[dict[str, Any]], found: Sequence[tuple[str, Leaves]]) -> None:
    """Add to each row's document its other leaves, except deletions."""
    for row, (_, leaves) in zip(rows, found, strict=True):
        others = [leaf.rev for leaf in leaves[1:] if not leaf.deleted]
        if others and row["doc"] is not None:
            row["doc"] = {**row["doc"], "_conflicts": others}


async def purge(exchange: Exchange) -> web.Response:
    """Remove documents whose leaves are all named, on every copy. CouchDB would purge a copy that is away later.

    A document with other leaves is left alone, which is less than CouchDB does.
    """
    exchange.require_admin()
    named = await exchange.object()
    document = exchange.model.map_of(exchange.node, exchange.database)
    copies = [copy for node in exchange.model.nodes for copy in node.holdings.get(document.name, ())]
    purged: dict[str, list[str]] = {}
    for document_id, revs in named.items():
        if not isinstance(revs, list):
            raise errors.bad_request("Invalid `_purge` request's `docs` member.")
        known = {leaf.rev for copy in copies for leaf in copy.leaves(document_id) or ()}
        if known and known <= set(revs):
            for copy in copies:
                copy.update_seq += copy.forget(document_id)
        purged[document_id] = sorted(known & set(revs))
    return reply({"purge_seq": None, "purged": purged}, 201)
