"""The pages of each kind of path, and the name of this kind in the request log."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.web import (
    database_pages,
    document_pages,
    feeds,
    leaf_pages,
    local_pages,
    node_pages,
    reshard_pages,
    server_pages,
)
from peruserd.simcluster.web.exchange import Exchange

Page = Callable[[Exchange], Awaitable[web.StreamResponse]]
Route = tuple[str, Mapping[str, Page]]


async def _changes(exchange: Exchange) -> web.StreamResponse:
    exchange.require_lister()
    return await feeds.database_changes(exchange)


_NODE: Final[Mapping[str, Page]] = dict.fromkeys(("GET", "PUT", "POST", "DELETE"), node_pages.node_page)
_WELCOME: Final[Route] = ("welcome", {"GET": server_pages.welcome})

_OF_SERVER: Final[Mapping[str, Route]] = {
    "_up": ("up", {"GET": server_pages.up}),
    "_session": (
        "session",
        {"GET": server_pages.read_session, "POST": server_pages.login, "DELETE": server_pages.logout},
    ),
    "_membership": ("membership", {"GET": server_pages.membership}),
    "_cluster_setup": ("cluster_setup", {"GET": server_pages.setup_state}),
    "_all_dbs": ("all_dbs", {"GET": server_pages.all_databases}),
    "_dbs_info": ("dbs_info", {"POST": server_pages.databases_info}),
    "_uuids": ("uuids", {"GET": server_pages.uuids}),
}

_DATABASE: Final[Route] = (
    "database",
    {
        "GET": database_pages.info,
        "PUT": database_pages.create,
        "DELETE": database_pages.delete,
        "POST": document_pages.create,
    },
)

_OF_DATABASE: Final[Mapping[str, Route]] = {
    "_security": ("security", {"GET": database_pages.read_security, "PUT": database_pages.write_security}),
    "_sync_shards": ("sync_shards", {"POST": database_pages.synchronise}),
    "_shards": ("shards", {"GET": database_pages.shards}),
    "_revs_limit": (
        "revs_limit",
        {"GET": database_pages.read_revs_limit, "PUT": database_pages.write_revs_limit},
    ),
    "_all_docs": ("all_docs", {"GET": document_pages.all_documents, "POST": document_pages.all_documents}),
    "_revs_diff": ("revs_diff", {"POST": document_pages.revisions_missing}),
    "_purge": ("purge", {"POST": leaf_pages.purge}),
    "_bulk_docs": ("bulk_docs", {"POST": document_pages.bulk}),
    "_changes": ("changes", {"GET": _changes, "POST": _changes}),
    "_local_docs": ("local_docs", {"GET": local_pages.list_all, "POST": local_pages.list_all}),
    "_local": (
        "local",
        {
            "GET": local_pages.read,
            "PUT": local_pages.write,
            "DELETE": local_pages.delete,
        },
    ),
}

_DOCUMENT: Final[Route] = (
    "document",
    {"GET": document_pages.read, "PUT": document_pages.write, "DELETE": document_pages.delete},
)


_OF_DIRECTORY: Final = {"_changes": "dbs_changes", "_all_docs": "dbs_docs", "_revs_diff": "dbs_docs"}


def route(segments: list[str]) -> Route:
    """Return the kind of a path and its pages by method."""
    if not segments:
        return _WELCOME
    first = segments[0]
    if first == "_node":
        return _node_kind(segments), _NODE
    if first == "_reshard":
        if len(segments) == 1:
            return "reshard", {"GET": reshard_pages.summary}
        return "reshard", {"GET": reshard_pages.list_jobs, "POST": reshard_pages.start}
    if first in _OF_SERVER:
        return _OF_SERVER[first]
    if len(segments) == 1:
        return _DATABASE
    # A local document's slash can come encoded, as in the `Location` that CouchDB gives for it.
    second = segments[1][: len("_local%2F")]
    second = "_local" if second.upper() == "_LOCAL%2F" else segments[1]
    return _OF_DATABASE.get(second, _DOCUMENT)


def page_of(exchange: Exchange, pages: Mapping[str, Page]) -> Page:
    """Return the page for the request's method. Refuses other methods."""
    page = pages.get(exchange.method)
    if page is None:
        allowed = ",".join(("GET", "HEAD", *pages) if "GET" in pages else pages)
        raise errors.method_not_allowed(allowed)
    return page


def _node_kind(segments: list[str]) -> str:
    if len(segments) < 3:
        return "node"
    match segments[2]:
        case "_config":
            return "config"
        case "_dbs":
            return _OF_DIRECTORY.get("/".join(segments[3:]), "dbs")
    match segments[3:]:
        case ["_changes"]:
            return "shard_changes"
        case ["_security"]:
            return "shard_security"
        case ["_all_docs" | "_revs_diff"]:
            return "shard_docs"
    return "shard"
