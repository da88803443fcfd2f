"""Pages of one shard copy, as a node's own HTTP layer answers them under `/_node/{name}/shards%2F…`.

These pages never ask another copy. They read this copy alone, and write to it alone.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from peruserd.simcluster.model import documents, errors, ids
from peruserd.simcluster.model.changes import with_identity
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.revisions import newest
from peruserd.simcluster.model.security_objects import fault_of
from peruserd.simcluster.web.exchange import Exchange, etag, reply
from peruserd.simcluster.web.feeds import shard_changes
from peruserd.simcluster.web.revs_diff import known_of, missing_revisions
from peruserd.simcluster.web.rows import local_row, row


async def copy_page(exchange: Exchange, node: Node, copy: ShardCopy) -> web.StreamResponse:
    """Serve any path under a shard."""
    under = exchange.rest(3)
    if under == "_changes":
        return await shard_changes(exchange, node, copy)
    if under not in _PAGES:
        if exchange.method != "GET":
            raise errors.method_not_allowed("GET,HEAD,PUT")
        return _document(exchange, copy, under) if under else reply(_info(copy))
    pages = _PAGES[under]
    if exchange.method not in pages:
        raise errors.method_not_allowed(",".join(pages))
    return await pages[exchange.method](exchange, copy)


async def _read_security(_: Exchange, copy: ShardCopy) -> web.Response:
    return reply(ids.shown_value(copy.security))


async def _write_security(exchange: Exchange, copy: ShardCopy) -> web.Response:
    security = await exchange.json()
    if not isinstance(security, dict):
        raise errors.bad_request("")
    fault = fault_of(security)
    if fault is not None:
        raise errors.RefusalError(500, "unknown_error", fault)
    copy.set_security(security)
    return reply({"ok": True})


async def _read_revs_limit(_: Exchange, copy: ShardCopy) -> web.Response:
    return reply(copy.revs_limit)


async def _write_revs_limit(exchange: Exchange, copy: ShardCopy) -> web.Response:
    limit = await exchange.json()
    if not isinstance(limit, int) or limit < 1:
        raise errors.bad_request("Rev limit has to be an integer")
    copy.revs_limit = limit
    return reply({"ok": True})


async def _all_documents(exchange: Exchange, copy: ShardCopy) -> web.Response:
    docs = exchange.flag("include_docs")
    keys = (await exchange.object()).get("keys") if exchange.method == "POST" else None
    if keys is None:
        begin, found = exchange.services.sorted_documents.between(
            [copy], exchange.key("start_key"), exchange.key("end_key")
        )
        found = found[: exchange.number("limit", len(found))]
        rows = [row(document_id, leaves, include_docs=docs) for document_id, leaves in found]
        return reply({"total_rows": copy.doc_count, "offset": begin, "rows": rows})
    if not isinstance(keys, list):
        raise errors.bad_request("`keys` member must be an array.")
    if not keys:
        return reply({"total_rows": copy.doc_count, "rows": []})
    rows = [_row_for_key(copy, str(key), include_docs=docs) for key in keys]
    return reply({"total_rows": copy.doc_count, "offset": 0, "rows": rows})


def _row_for_key(copy: ShardCopy, key: str, *, include_docs: bool) -> dict[str, Any]:
    leaves = copy.leaves(key)
    return {"key": key, "error": "not_found"} if leaves is None else row(key, leaves, include_docs=include_docs)


async def _revisions_missing(exchange: Exchange, copy: ShardCopy) -> web.Response:
    """Say of each document which of some revisions this copy never heard of."""
    return await missing_revisions(exchange, lambda document_id: known_of(copy.leaves(document_id)))


async def _list_local(exchange: Exchange, copy: ShardCopy) -> web.Response:
    docs = exchange.flag("include_docs")
    rows = [local_row(document_id, local, include_docs=docs) for document_id, local in sorted(copy.local.items())]
    return reply({"total_rows": None, "offset": None, "rows": rows})


def _document(exchange: Exchange, copy: ShardCopy, document_id: str) -> web.Response:
    if document_id.startswith(documents.LOCAL_PREFIX):
        local = copy.local.get(document_id)
        if local is None:
            raise errors.no_document()
        return reply(with_identity(document_id, local.rev, local.body), headers=etag(local.body))
    leaves = copy.leaves(document_id)
    rev = exchange.query.get("rev")
    wanted = newest(leaves, rev) if leaves else None
    if wanted is None:
        raise errors.no_document()
    if wanted.deleted and rev is None:
        raise errors.no_document("deleted")
    body = with_identity(document_id, wanted.rev, wanted.body, deleted=wanted.deleted)
    return reply(body, headers={"ETag": f'"{wanted.rev}"'})


def _info(copy: ShardCopy) -> dict[str, Any]:
    return {
        "db_name": copy.path,
        "engine": "couch_bt_engine",
        "doc_count": copy.doc_count,
        "doc_del_count": copy.deleted_count,
        "update_seq": copy.update_seq,
        "purge_seq": 0,
        "compact_running": False,
        "sizes": {"active": 500 * copy.doc_count, "external": 300 * copy.doc_count, "file": 16_384},
        "instance_start_time": str(copy.started),
        "disk_format_version": 8,
        "committed_update_seq": copy.update_seq,
        "compacted_seq": 0,
        "props": {},
        "uuid": copy.uuid,
    }


_PAGES: Final[Mapping[str, Mapping[str, Callable[[Exchange, ShardCopy], Awaitable[web.StreamResponse]]]]] = {
    "_security": {"PUT": _write_security, "GET": _read_security},
    "_revs_limit": {"PUT": _write_revs_limit, "GET": _read_revs_limit},
    "_all_docs": {"GET": _all_documents, "POST": _all_documents},
    "_revs_diff": {"POST": _revisions_missing},
    "_local_docs": {"GET": _list_local},
}
