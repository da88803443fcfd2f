"""Pages under `/_node/{name}`: what a node says of itself and its shard files, whichever node is asked."""

import re
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from peruserd.simcluster import documents, errors
from peruserd.simcluster.changes import with_identity
from peruserd.simcluster.copies import ShardCopy
from peruserd.simcluster.maps import MapDocument
from peruserd.simcluster.nodes import DIRECTORY, Node
from peruserd.simcluster.web.exchange import Exchange, etag, reply
from peruserd.simcluster.web.feeds import shard_changes

_REVISION: Final = re.compile(r"(\d+)-.+")


async def node_page(exchange: Exchange) -> web.StreamResponse:
    """Serve any path under `/_node`: by the node itself where it is `_local` or its own name, else by relaying."""
    exchange.require_admin()
    segments = exchange.segments
    node = _named(exchange, unquote(segments[1]) if len(segments) > 1 else "")
    if len(segments) == 2:
        return reply({"name": node.name})
    match unquote(segments[2]):
        case "_config":
            return await _config(exchange, node)
        case "_dbs" if exchange.rest(3) == "_changes":
            return await shard_changes(exchange, node, node.directory)
        case "_dbs" if exchange.rest(3) == "_all_docs":
            return await _looked_up(exchange, node)
        case "_dbs" if exchange.rest(3) == "_revs_diff":
            return await _revisions_missing(exchange, node)
        case "_dbs":
            return _shard_map(node, exchange.rest(3))
        case path:
            copy = node.shards.get(path)
            if copy is None:
                raise errors.no_shard() if path.startswith("shards/") else errors.no_document()
            return await _shard(exchange, node, copy)


def _named(exchange: Exchange, name: str) -> Node:
    if name in ("_local", exchange.node.name):
        return exchange.node
    node = exchange.model.by_name.get(name)
    if node is None or not (node.known and exchange.node.known):
        raise errors.no_node(name)
    if node not in exchange.model.reachable(exchange.node):
        raise errors.node_down(name)
    return node


def _shard_map(node: Node, name: str) -> web.Response:
    if not name:
        return reply({"db_name": DIRECTORY, "doc_count": len(node.names), "update_seq": node.directory.update_seq})
    document = node.maps.get(name)
    if document is None:
        raise errors.no_document()
    if document.current is None:
        raise errors.no_document("deleted")
    return reply(document.as_json(), headers={"ETag": f'"{document.rev}"'})


async def _looked_up(exchange: Exchange, node: Node) -> web.Response:
    """Say of each database that is asked for whether the node knows a shard map of it."""
    keys = (await exchange.object()).get("keys")
    if not isinstance(keys, list):
        raise errors.bad_request("`keys` body member must be an array.")
    rows = [_map_row(node, key) for key in keys]
    return reply({"total_rows": len(node.names), "offset": 0, "rows": rows})


async def _revisions_missing(exchange: Exchange, node: Node) -> web.Response:
    """Say of each shard map which of some revisions the node does not have, and which it has that are older."""
    asked = {name: _revisions(each) for name, each in (await exchange.object()).items()}
    differences = {name: _difference(node.maps.get(name), revisions) for name, revisions in asked.items()}
    return reply({name: each for name, each in differences.items() if each})


def _revisions(asked: object) -> dict[str, int]:
    if not isinstance(asked, list):
        raise errors.bad_request("Invalid list of revisions")
    parsed = {each: _REVISION.fullmatch(each) if isinstance(each, str) else None for each in asked}
    if not all(parsed.values()):
        raise errors.bad_request("Invalid rev format")
    return {rev: int(match[1]) for rev, match in parsed.items() if match}


def _difference(document: MapDocument | None, asked: dict[str, int]) -> dict[str, Any]:
    missing = [rev for rev in asked if document is None or rev != document.rev]
    if not missing:
        return {}
    found = {"missing": missing}
    if document is not None and document.events < max(asked[rev] for rev in missing):
        found["possible_ancestors"] = [document.rev]
    return found


def _map_row(node: Node, name: str) -> dict[str, Any]:
    document = node.maps.get(name)
    if document is None:
        return {"key": name, "error": "not_found"}
    value: dict[str, Any] = {"rev": document.rev}
    if document.current is None:
        value["deleted"] = True
    return {"id": name, "key": name, "value": value}


async def _shard(exchange: Exchange, node: Node, copy: ShardCopy) -> web.StreamResponse:
    match exchange.method, exchange.rest(3):
        case "GET", "":
            return reply(_shard_info(copy))
        case "GET", "_changes":
            return await shard_changes(exchange, node, copy)
        case "GET", "_security":
            return reply(copy.security)
        case "PUT", "_security":
            security = await exchange.json()
            if not documents.well_formed_security(security):
                raise errors.bad_request("The security object does not have the right shape.")
            copy.set_security(security)
            return reply({"ok": True})
        case "GET", document_id:
            return _document(copy, document_id)
    raise errors.RefusalError(405, "method_not_allowed", "Only GET,HEAD,PUT allowed")


def _document(copy: ShardCopy, document_id: str) -> web.Response:
    if document_id.startswith(documents.LOCAL_PREFIX):
        local = copy.local.get(document_id)
        if local is None:
            raise errors.no_document()
        return reply(with_identity(document_id, local.rev, local.body), headers=etag(local.body))
    leaves = copy.leaves(document_id)
    if leaves is None or leaves[0].deleted:
        raise errors.no_document("deleted" if leaves else "missing")
    return reply(with_identity(document_id, leaves[0].rev, leaves[0].body), headers={"ETag": f'"{leaves[0].rev}"'})


def _shard_info(copy: ShardCopy) -> dict[str, Any]:
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


async def _config(exchange: Exchange, node: Node) -> web.Response:
    names = [unquote(segment) for segment in exchange.segments[3:]]
    if not names:
        return reply(node.config)
    section = node.config.get(names[0], {})
    if len(names) == 1:
        return reply(section)
    before = section.get(names[1])
    if exchange.method == "PUT":
        value = await exchange.json()
        if not isinstance(value, str):
            raise errors.bad_request("A configuration value is a JSON string.")
        node.config.setdefault(names[0], {})[names[1]] = value
        return reply(before or "")
    if before is None:
        raise errors.no_document("unknown_config_value")
    if exchange.method == "DELETE":
        del section[names[1]]
    return reply(before)
