"""Pages under `/_node/{name}`: a node's own state and its shard files, also through another node."""

from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.nodes import DIRECTORY, Node
from peruserd.simcluster.web.copy_pages import copy_page
from peruserd.simcluster.web.exchange import Exchange, reply
from peruserd.simcluster.web.feeds import shard_changes
from peruserd.simcluster.web.revs_diff import Known, missing_revisions
from peruserd.simcluster.web.server_pages import clock_page, read_session


async def node_page(exchange: Exchange) -> web.StreamResponse:
    """Serve any path under `/_node`, from the asked node itself or by relay from the node with this name."""
    exchange.require_admin()
    segments = exchange.segments
    node = _named(exchange, unquote_plus(segments[1]) if len(segments) > 1 else "")
    if len(segments) == 2:
        return reply({"name": node.name})
    if unquote_plus(segments[2]) == "_config":
        return await _config(exchange, node)
    # Even the asked node itself checks the credentials again here, as for a request from another node.
    exchange.identify_at(node)
    if unquote_plus(segments[2]) == "_session":
        return await read_session(exchange)
    exchange.require_admin()
    match unquote_plus(segments[2]):
        case "_dbs" if exchange.rest(3) == "_changes":
            return await shard_changes(exchange, node, node.directory)
        case "_dbs" if exchange.rest(3) in ("_all_docs", "_revs_diff"):
            if exchange.method != "POST":
                raise errors.method_not_allowed("POST")
            return await (_looked_up if exchange.rest(3) == "_all_docs" else _revisions_missing)(exchange, node)
        case "_dbs":
            return _shard_map(exchange, node, exchange.rest(3))
        case "_uuids":
            return clock_page(exchange, node)
        case path:
            copy = node.shards.get(path)
            if copy is None:
                raise errors.no_document() if path.startswith("_") else errors.no_shard()
            return await copy_page(exchange, node, copy)


def _named(exchange: Exchange, name: str) -> Node:
    if name in ("_local", exchange.node.name):
        return exchange.node
    node = exchange.model.by_name.get(name)
    if node is None or not (node.known and exchange.node.known):
        raise errors.no_node(name)
    if node not in exchange.model.reachable(exchange.node):
        raise errors.node_down(name)
    return node


def _shard_map(exchange: Exchange, node: Node, name: str) -> web.Response:
    if not name:
        directory = node.directory
        seq, deleted = directory.update_seq, len(node.maps) - len(node.names)
        opened = {"instance_start_time": str(directory.started)}
        counts = {"doc_count": len(node.names), "doc_del_count": deleted, "update_seq": seq}
        return reply({"db_name": DIRECTORY, **counts, "uuid": directory.uuid, **opened})
    document = node.maps.get(name)
    if exchange.query.get("open_revs") == "all":
        return reply([] if document is None else [{"ok": document.as_leaf()}])
    if document is None:
        raise errors.no_document()
    if document.current is None:
        raise errors.no_document("deleted")
    return reply(document.as_json(), headers={"ETag": f'"{document.rev}"'})


async def _looked_up(exchange: Exchange, node: Node) -> web.Response:
    """Return a row for each requested database, with the node's shard map of it."""
    keys = (await exchange.object()).get("keys")
    if not isinstance(keys, list):
        raise errors.bad_request("`keys` body member must be an array.")
    docs = exchange.flag("include_docs")
    rows = [_map_row(node, key, include_docs=docs) for key in keys]
    return reply({"total_rows": len(node.names), "offset": 0, "rows": rows})


async def _revisions_missing(exchange: Exchange, node: Node) -> web.Response:
    """Return the requested revisions of shard maps that the node does not have."""
    return await missing_revisions(exchange, lambda name: _known(node, name))


def _known(node: Node, name: str) -> Known:
    document = node.maps.get(name)
    if document is None:
        return Known()
    return Known(frozenset(node.map_revisions[name]), {document.rev: document.events})


def _map_row(node: Node, name: str, *, include_docs: bool) -> dict[str, Any]:
    document = node.maps.get(name)
    if document is None:
        return {"key": name, "error": "not_found"}
    value: dict[str, Any] = {"rev": document.rev}
    if document.current is None:
        value["deleted"] = True
    found: dict[str, Any] = {"id": name, "key": name, "value": value}
    if include_docs:
        found["doc"] = None if document.current is None else document.as_json()
    return found


async def _config(exchange: Exchange, node: Node) -> web.Response:
    names = [unquote_plus(segment) for segment in exchange.segments[3:]]
    if exchange.method not in (("GET", "PUT", "DELETE") if len(names) == 2 else ("GET",)):
        raise errors.method_not_allowed("GET,PUT,DELETE" if len(names) == 2 else "GET")
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
        if names[0] == "admins":
            return reply(exchange.services.accounts.set_admin([node], names[1], value))
        node.config.setdefault(names[0], {})[names[1]] = value
        exchange.services.on_config(names[0])
        return reply(before or "")
    if before is None:
        raise errors.no_document("unknown_config_value")
    if exchange.method == "DELETE":
        del section[names[1]]
        exchange.services.on_config(names[0])
    return reply(before)
