"""Pages of local documents. Every reader of a database may write them, without history or validation."""

from typing import Any

from aiohttp import web

from peruserd.simcluster.accounts import user_documents
from peruserd.simcluster.model import documents, errors, ids
from peruserd.simcluster.model.changes import with_identity
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.web.document_pages import address, content, named_rev
from peruserd.simcluster.web.exchange import Exchange, etag, reply
from peruserd.simcluster.web.rows import local_row


async def list_all(exchange: Exchange) -> web.Response:
    """List local documents: all, those between keys, or those asked for by name."""
    exchange.require_member()
    keys = (await exchange.object()).get("keys") if exchange.method == "POST" else exchange.json_list("keys")
    docs = exchange.flag("include_docs")
    if keys is not None:
        rows = [_local_row_for_key(exchange, str(key), include_docs=docs) for key in keys]
    else:
        first, last = exchange.key("start_key", "startkey"), exchange.key("end_key", "endkey")
        rows = [
            local_row(document_id, local, include_docs=docs)
            for document_id, local in documents.list_local(exchange.model, exchange.node, exchange.database)
            if (first is None or first <= document_id) and (last is None or document_id <= last)
        ]
    rows = rows[: exchange.number("limit", len(rows))]
    return reply({"total_rows": None, "offset": None, "rows": rows})


def _local_row_for_key(exchange: Exchange, key: str, *, include_docs: bool) -> dict[str, Any]:
    try:
        local = documents.read_local(exchange.model, exchange.node, exchange.database, key)
    except errors.RefusalError as error:
        if error.status != 404:
            # An unreadable document makes the whole request fail, and its name is the error.
            raise errors.RefusalError(500, key, "{case_clause,{error,read_failure}}") from error
        return {"key": key, "error": "not_found"}
    return local_row(key, local, include_docs=include_docs)


async def read(exchange: Exchange) -> web.Response:
    """Give a local document."""
    exchange.require_member()
    document_id = exchange.rest(1)
    local = documents.read_local(exchange.model, exchange.node, exchange.database, document_id)
    return reply(with_identity(document_id, local.rev, local.body), headers=etag(local.body))


async def write(exchange: Exchange) -> web.Response:
    """Write a local document. The write always succeeds, with or without a revision."""
    document_id = _writable(exchange)
    sent = await exchange.object()
    body = content(sent)
    made, agreed = documents.write_local(
        exchange.model, exchange.node, exchange.database, document_id, named_rev(exchange) or sent.get("_rev"), body
    )
    return reply(
        {"ok": True, "id": ids.shown(document_id), "rev": made.rev},
        201 if agreed else 202,
        {**etag(body), "Location": address(exchange, document_id)},
    )


async def delete(exchange: Exchange) -> web.Response:
    """Delete a local document, whatever its revision is."""
    document_id = _writable(exchange)
    agreed = documents.delete_local(exchange.model, exchange.node, exchange.database, document_id)
    return reply(
        {"ok": True, "id": ids.shown(document_id), "rev": "0-0"}, 200 if agreed else 202, etag(ids.shown(document_id))
    )


def _writable(exchange: Exchange) -> str:
    """Return the id of the local document in the path. Refuses users who may not write it."""
    exchange.require_member()
    document_id = exchange.rest(1)
    ids.check(document_id)
    if exchange.database == AUTH_DATABASE:
        user_documents.require_writer(document_id, exchange.writer())
    return document_id
