"""Pages of documents: one, many at once, lists of them, local ones."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from peruserd.simcluster import documents, errors, users
from peruserd.simcluster.accounts import require_database_admin
from peruserd.simcluster.changes import with_identity
from peruserd.simcluster.copies import LocalDocument
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.revisions import Leaves, newest
from peruserd.simcluster.web.exchange import Exchange, etag, reply


async def read(exchange: Exchange) -> web.Response:
    """Give a document; one that was deleted is refused as `deleted`, one that never was as `missing`."""
    _require_reader(exchange)
    document_id = exchange.rest(1)
    leaves = documents.read(exchange.model, exchange.node, exchange.database, document_id)
    if leaves is None:
        raise errors.no_document()
    wanted = newest(leaves, exchange.query.get("rev"))
    if wanted is None:
        raise errors.no_document()
    if wanted.deleted and "rev" not in exchange.query:
        raise errors.no_document("deleted")
    body = with_identity(document_id, wanted.rev, wanted.body, deleted=wanted.deleted)
    if exchange.flag("conflicts") and len(leaves) > 1:
        body["_conflicts"] = [leaf.rev for leaf in leaves[1:] if not leaf.deleted]
    return reply(body, headers={"ETag": f'"{wanted.rev}"'})


async def write(exchange: Exchange) -> web.Response:
    """Write a document: 201, or 202 where only a minority of its copies has it yet."""
    _require_reader(exchange)
    document_id = exchange.rest(1)
    sent = await exchange.object()
    rev, deleted, body = _parts(sent)
    made, agreed = _store(exchange, document_id, _named_rev(exchange) or rev, body, deleted=deleted)
    return reply(
        {"ok": True, "id": document_id, "rev": made},
        201 if agreed else 202,
        {"ETag": f'"{made}"', "Location": _address(exchange, document_id)},
    )


async def delete(exchange: Exchange) -> web.Response:
    """Delete a document: 200, or 202 where only a minority of its copies knows yet."""
    _require_reader(exchange)
    document_id = exchange.rest(1)
    leaves = documents.read(exchange.model, exchange.node, exchange.database, document_id)
    if leaves is None or leaves[0].deleted:
        raise errors.no_document("deleted" if leaves else "missing")
    made, agreed = _store(exchange, document_id, _named_rev(exchange), {}, deleted=True)
    return reply({"ok": True, "id": document_id, "rev": made}, 200 if agreed else 202, {"ETag": f'"{made}"'})


async def create(exchange: Exchange) -> web.Response:
    """Write a document under its own `_id`, or a fresh one."""
    _require_reader(exchange)
    sent = await exchange.object()
    document_id = str(sent.get("_id") or exchange.model.fresh_uuid())
    rev, deleted, body = _parts(sent)
    made, agreed = _store(exchange, document_id, rev, body, deleted=deleted)
    return reply(
        {"ok": True, "id": document_id, "rev": made},
        201 if agreed else 202,
        {"Location": _address(exchange, document_id)},
    )


async def bulk(exchange: Exchange) -> web.Response:
    """Write many documents, each on its own: some can be refused and others not."""
    exchange.require_member()
    sent = (await exchange.object()).get("docs")
    if not isinstance(sent, list):
        raise errors.bad_request("POST body must include `docs` parameter.")
    results: list[dict[str, Any]] = []
    all_agreed = True
    for each in sent:
        if not isinstance(each, dict):
            raise errors.bad_request("Document must be a JSON object")
        document_id = str(each.get("_id") or exchange.model.fresh_uuid())
        rev, deleted, body = _parts(each)
        try:
            made, agreed = _store(exchange, document_id, rev, body, deleted=deleted)
        except errors.RefusalError as error:
            results.append({"id": document_id, "error": error.error, "reason": error.reason})
        else:
            all_agreed &= agreed
            results.append({"ok": True, "id": document_id, "rev": made})
    return reply(results, 201 if all_agreed else 202)


async def all_documents(exchange: Exchange) -> web.Response:
    """List documents by id: all, those between keys, or those asked for by name."""
    exchange.require_member()
    copies = exchange.model.covering(exchange.node, exchange.database)
    total = sum(copy.doc_count for copy in copies)
    keys = (await exchange.object()).get("keys") if exchange.method == "POST" else exchange.json_list("keys")
    if keys is not None:
        rows = [_row_for_key(exchange, str(key)) for key in keys]
        return reply({"total_rows": total, "offset": None, "rows": rows})
    return _between(exchange, total)


def _between(exchange: Exchange, total: int) -> web.Response:
    first, last = exchange.key("start_key", "startkey"), exchange.key("end_key", "endkey")
    exact = exchange.key("key")
    if exact is not None:
        first = last = exact
    backwards = exchange.flag("descending")
    if backwards:
        first, last = last, first
    copies = exchange.model.covering(exchange.node, exchange.database)
    before, found = exchange.services.listings.between(copies, first, last)
    if backwards:
        before = total - before - len(found)
        found.reverse()
    skip = exchange.number("skip", 0)
    found = found[skip : skip + exchange.number("limit", len(found))]
    docs = exchange.flag("include_docs")
    rows = [_row(document_id, leaves, include_docs=docs) for document_id, leaves in found]
    return reply({"total_rows": total, "offset": before + skip, "rows": rows})


async def list_local(exchange: Exchange) -> web.Response:
    """List local documents: all, those between keys, or those asked for by name."""
    exchange.require_member()
    keys = (await exchange.object()).get("keys") if exchange.method == "POST" else exchange.json_list("keys")
    if keys is not None:
        rows = [_local_row_for_key(exchange, str(key)) for key in keys]
    else:
        first, last = exchange.key("start_key", "startkey"), exchange.key("end_key", "endkey")
        rows = [
            _local_row(exchange, document_id, local)
            for document_id, local in documents.list_local(exchange.model, exchange.node, exchange.database)
            if (first is None or first <= document_id) and (last is None or document_id <= last)
        ]
    return reply({"total_rows": None, "offset": None, "rows": rows})


def _local_row(exchange: Exchange, document_id: str, local: LocalDocument) -> dict[str, Any]:
    row: dict[str, Any] = {"id": document_id, "key": document_id, "value": {"rev": local.rev}}
    if exchange.flag("include_docs"):
        row["doc"] = with_identity(document_id, local.rev, local.body)
    return row


def _local_row_for_key(exchange: Exchange, key: str) -> dict[str, Any]:
    try:
        local = documents.read_local(exchange.model, exchange.node, exchange.database, key)
    except errors.RefusalError as error:
        if error.status != 404:
            # One that cannot be read spoils the answer for all, with its own name for an error.
            raise errors.RefusalError(500, key, "{case_clause,{error,read_failure}}") from error
        return {"key": key, "error": "not_found"}
    return _local_row(exchange, key, local)


async def read_local(exchange: Exchange) -> web.Response:
    """Give a local document."""
    exchange.require_member()
    document_id = exchange.rest(1)
    local = documents.read_local(exchange.model, exchange.node, exchange.database, document_id)
    return reply(with_identity(document_id, local.rev, local.body), headers=etag(local.body))


async def write_local(exchange: Exchange) -> web.Response:
    """Write a local document; with or without its revision, it always succeeds."""
    exchange.require_member()
    document_id = exchange.rest(1)
    rev, _, body = _parts(await exchange.object())
    made, agreed = documents.write_local(
        exchange.model, exchange.node, exchange.database, document_id, _named_rev(exchange) or rev, body
    )
    return reply(
        {"ok": True, "id": document_id, "rev": made.rev},
        201 if agreed else 202,
        {**etag(body), "Location": _address(exchange, document_id)},
    )


async def delete_local(exchange: Exchange) -> web.Response:
    """Delete a local document; its revision is not looked at."""
    exchange.require_member()
    document_id = exchange.rest(1)
    agreed = documents.delete_local(exchange.model, exchange.node, exchange.database, document_id)
    return reply({"ok": True, "id": document_id, "rev": "0-0"}, 200 if agreed else 202, etag(document_id))


def _store(
    exchange: Exchange, document_id: str, rev: str | None, body: dict[str, Any], *, deleted: bool
) -> tuple[str, bool]:
    model, node, database = exchange.model, exchange.node, exchange.database
    if document_id.startswith("_design/"):
        if not exchange.user.is_admin:
            require_database_admin(exchange.user, documents.read_security(model, node, database))
    elif database == AUTH_DATABASE and not deleted:
        body = users.accept(document_id, body, model.fresh_uuid())
    return documents.write(model, node, database, document_id, rev, body, deleted=deleted)


def _require_reader(exchange: Exchange) -> None:
    """Refuse who may not use the database, save that a user may read and write the own user document."""
    own = exchange.user.name is not None and exchange.rest(1) == f"org.couchdb.user:{exchange.user.name}"
    if not (own and exchange.database == AUTH_DATABASE):
        exchange.require_member()


def _row(document_id: str, leaves: Leaves, *, include_docs: bool) -> dict[str, Any]:
    winner = leaves[0]
    row: dict[str, Any] = {"id": document_id, "key": document_id, "value": {"rev": winner.rev}}
    if winner.deleted:
        row["value"]["deleted"] = True
    if include_docs:
        row["doc"] = None if winner.deleted else with_identity(document_id, winner.rev, winner.body)
    return row


def _row_for_key(exchange: Exchange, key: str) -> dict[str, Any]:
    leaves = documents.read(exchange.model, exchange.node, exchange.database, key)
    if leaves is None:
        return {"key": key, "error": "not_found"}
    return _row(key, leaves, include_docs=exchange.flag("include_docs"))


def _parts(sent: dict[str, Any]) -> tuple[str | None, bool, dict[str, Any]]:
    """Return the revision a sent document names, whether it says it is deleted, and its content."""
    body = {key: value for key, value in sent.items() if key not in ("_id", "_rev", "_deleted", "_revisions")}
    return sent.get("_rev"), sent.get("_deleted") is True, body


def _named_rev(exchange: Exchange) -> str | None:
    rev = exchange.query.get("rev") or exchange.request.headers.get("If-Match")
    return rev.strip('"') if rev else None


def _address(exchange: Exchange, document_id: str) -> str:
    return exchange.location(quote(exchange.database, safe=""), quote(document_id, safe=":"))
