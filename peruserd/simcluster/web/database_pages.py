"""Pages of a database: making, describing, securing and deleting it, and where its shards are."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from peruserd.simcluster.accounts.accounts import may_administer, require_database_admin
from peruserd.simcluster.events.seed import add_design_document
from peruserd.simcluster.model import documents, errors, ids, lost
from peruserd.simcluster.model.changes import update_sequence
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.database_names import check_database_name
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.web.exchange import Exchange, reply


async def create(exchange: Exchange) -> web.Response:
    """Create a database: 201, or 202 where only a minority of the nodes knows it yet."""
    exchange.require_admin()
    name = exchange.database
    check_database_name(name)
    options = exchange.model.options
    q, n = _positive(exchange, "q", options.q), _positive(exchange, "n", options.n)
    props: dict[str, Any] = {}
    if exchange.flag("partitioned"):
        props = {"partitioned": True, "hash": ["couch_partition", "hash", []]}
    agreed = exchange.model.create_database(exchange.node, name, q=q, n=n, props=props)
    if name == AUTH_DATABASE:
        add_design_document(exchange.model, exchange.node)
    exchange.services.request_log.created[name] += 1
    return reply({"ok": True}, 201 if agreed else 202, {"Location": exchange.location(quote(name, safe=""))})


async def info(exchange: Exchange) -> web.Response:
    """Describe a database."""
    exchange.require_member()
    return reply(database_info(exchange.model, exchange.node, exchange.database))


async def delete(exchange: Exchange) -> web.Response:
    """Delete a database: 200, or 202 where only a minority of the nodes knows of it yet."""
    exchange.require_admin()
    agreed = exchange.model.delete_database(exchange.node, exchange.database)
    exchange.services.request_log.deleted[exchange.database] += 1
    return reply({"ok": True}, 200 if agreed else 202)


async def read_security(exchange: Exchange) -> web.Response:
    """Give the security object of one copy."""
    exchange.require_member()
    return reply(ids.shown_value(documents.read_security(exchange.model, exchange.node, exchange.database)))


async def write_security(exchange: Exchange) -> web.Response:
    """Replace the security object of every copy that can be reached.

    Each copy refuses other users than its admins, so a reader gets the answer that there is no majority.
    """
    exchange.require_member()
    editable = exchange.node.config["couchdb"].get("users_db_security_editable", "false")
    if exchange.database == AUTH_DATABASE and editable == "false":
        raise errors.forbidden("You can't edit the security object of the user database.")
    security = await exchange.json()
    if not may_administer(exchange.user, documents.read_security(exchange.model, exchange.node, exchange.database)):
        raise errors.no_majority()
    documents.write_security(exchange.model, exchange.node, exchange.database, security)
    return reply({"ok": True})


async def shards(exchange: Exchange) -> web.Response:
    """List the hosts of each range, or of one document's range, with nodes that are down."""
    exchange.require_member()
    document = exchange.model.map_of(exchange.node, exchange.database)
    document_id = exchange.rest(2)
    if not document_id:
        # CouchDB lists nodes in the reverse order of their names.
        return reply({"shards": {str(each): nodes[::-1] for each, nodes in document.hosts.items()}})
    position = ids.place(document_id)
    covered, nodes = next(pair for pair in document.hosts.items() if position in pair[0])
    return reply({"range": str(covered), "nodes": nodes[::-1]})


async def synchronise(exchange: Exchange) -> web.Response:
    """Let the copies replicate to each other now, without a write."""
    exchange.require_admin()
    lost.synchronise(exchange.model, exchange.node, exchange.database)
    return reply({"ok": True}, 202)


async def read_revs_limit(exchange: Exchange) -> web.Response:
    """Say how many revisions are remembered."""
    exchange.require_member()
    return reply(exchange.model.covering(exchange.node, exchange.database)[0].revs_limit)


async def write_revs_limit(exchange: Exchange) -> web.Response:
    """Set how many revisions are remembered."""
    exchange.require_member()
    require_database_admin(exchange.user, documents.read_security(exchange.model, exchange.node, exchange.database))
    limit = await exchange.json()
    if not isinstance(limit, int):
        raise errors.bad_request("Rev limit has to be an integer")
    if limit < 1:
        raise errors.crash("function_clause")
    reached = exchange.model.copies_of(exchange.node, exchange.database)
    for copy in reached:
        copy.revs_limit = limit
    hosts = exchange.model.map_of(exchange.node, exchange.database).hosts
    if len(reached) < sum(map(len, hosts.values())):
        # A real server waits for all copies, and answers so after a minute.
        raise errors.crash("{badmatch,{error,timeout}}")
    return reply({"ok": True})


def database_info(model: ClusterModel, node: Node, name: str) -> dict[str, Any]:
    """Describe a database from one copy of each range. Refuses where there is none."""
    document = model.map_of(node, name)
    copies = model.covering(node, name)
    life = document.current
    count = document.copies()
    doc_count = sum(copy.doc_count for copy in copies)
    return {
        "instance_start_time": life.suffix[1:] if life else "0",
        "db_name": name,
        "purge_seq": "0-AAAA",
        "update_seq": update_sequence(copies),
        "sizes": {"file": 16_384 * len(copies), "external": 300 * doc_count, "active": 500 * doc_count},
        "props": {"partitioned": True} if life and (life.props or {}).get("partitioned") else {},
        "doc_del_count": sum(copy.deleted_count for copy in copies),
        "doc_count": doc_count,
        "disk_format_version": 8,
        "compact_running": False,
        "cluster": {
            "q": len(document.hosts),
            "n": count,
            "w": count // 2 + 1,
            "r": count // 2 + 1,
        },
    }


def _positive(exchange: Exchange, name: str, default: int) -> int:
    text = exchange.query.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise errors.bad_request(f"The `{name}` value should be a positive integer.")
    return int(text)
