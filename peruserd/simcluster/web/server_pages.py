"""Pages of the server itself: welcome, membership, sessions, lists of databases."""

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from aiohttp import web

from peruserd.simcluster.accounts.accounts import COOKIE, SESSION_SECONDS, WRONG, User
from peruserd.simcluster.model import errors, ids
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.web.database_pages import database_info
from peruserd.simcluster.web.exchange import Exchange, encode, etag, raw_reply, refusal, reply

_MAX_KEYS: Final = 100

_WELCOME: Final = encode(
    {
        "couchdb": "Welcome",
        "version": "3.5.0",
        "git_sha": "",
        "uuid": "simulated",
        "features": [
            "quickjs",
            "access-ready",
            "partitioned",
            "pluggable-storage-engines",
            "reshard",
            "scheduler",
        ],
        "vendor": {"name": "peruserd simcluster"},
    }
)


async def welcome(_: Exchange) -> web.Response:
    """Describe the server."""
    return raw_reply(_WELCOME)


async def up(exchange: Exchange) -> web.Response:
    """Say whether the node is in service, also without a majority."""
    if exchange.node.in_maintenance:
        return reply({"status": "maintenance_mode"}, 404)
    return reply({"status": "ok", "seeds": {}})


async def membership(exchange: Exchange) -> web.Response:
    """List the connected nodes, and the members of the cluster."""
    exchange.require_admin()
    model = exchange.model
    connected = sorted(node.name for node in model.reachable(exchange.node))
    return reply({"all_nodes": connected, "cluster_nodes": [node.name for node in model.members(exchange.node)]})


async def setup_state(exchange: Exchange) -> web.Response:
    """Return the state of the set-up. It is finished when the authentication database exists."""
    exchange.require_admin()
    finished = exchange.node.database(AUTH_DATABASE) is not None
    return reply({"state": "cluster_finished" if finished else "cluster_enabled"})


async def read_session(exchange: Exchange) -> web.Response:
    """Describe the user of the request."""
    user = exchange.user
    info: dict[str, Any] = {"authentication_handlers": ["cookie", "default"]}
    if user.handler is not None:
        info["authenticated"] = user.handler
    return reply({"ok": True, "userCtx": {"name": _shown(user), "roles": user.roles}, "info": info})


async def login(exchange: Exchange) -> web.Response:
    """Give a session cookie for a name and a password, sent as JSON or as a form."""
    if exchange.request.content_type == "application/x-www-form-urlencoded":
        form = parse_qs((await exchange.request.read()).decode())
        sent: dict[str, Any] = {key: values[0] for key, values in form.items()}
    else:
        sent = await exchange.object()
    accounts = exchange.services.accounts
    try:
        name, password = str(sent.get("name", "")), str(sent.get("password", ""))
        user, value = accounts.login(exchange.node, name, password, exchange.address)
    except errors.RefusalError as error:
        if error.reason != WRONG:
            raise
        answer = refusal(error)
        answer.headers["Set-Cookie"] = set_cookie(exchange, "")
        return answer
    cookie = set_cookie(exchange, value)
    return reply({"ok": True, "name": _shown(user), "roles": user.roles}, headers={"Set-Cookie": cookie})


async def logout(exchange: Exchange) -> web.Response:
    """Take the session cookie back."""
    exchange.user = User()
    return reply({"ok": True}, headers={"Set-Cookie": set_cookie(exchange, "")})


async def all_databases(exchange: Exchange) -> web.Response:
    """List the names of databases, between keys."""
    exchange.require_admin()
    names = exchange.node.names
    first, last = exchange.key("start_key", "startkey"), exchange.key("end_key", "endkey")
    backwards = exchange.flag("descending")
    if backwards:
        first, last = last, first
    begin = bisect_left(names, first) if first is not None else 0
    end = bisect_right(names, last) if last is not None else len(names)
    found = names[begin:end]
    if backwards:
        found.reverse()
    skip = exchange.number("skip", 0)
    found = found[skip : skip + exchange.number("limit", len(found))]
    return reply(found, headers=etag(len(names), found[:1], found[-1:]))


async def databases_info(exchange: Exchange) -> web.Response:
    """Describe up to a hundred databases."""
    exchange.require_admin()
    keys = (await exchange.object()).get("keys")
    if not isinstance(keys, list):
        raise errors.bad_request("`keys` member must exist.")
    if len(keys) > _MAX_KEYS:
        raise errors.bad_request("too_many_keys")
    return reply([_described(exchange, key) for key in keys])


async def uuids(exchange: Exchange) -> web.Response:
    """Give out fresh identifiers."""
    return clock_page(exchange, exchange.node)


def clock_page(exchange: Exchange, node: Node) -> web.Response:
    """Give out fresh identifiers of a node, with the time of its own clock, also where the answer is relayed."""
    found = [exchange.model.fresh_uuid() for _ in range(exchange.number("count", 1))]
    now = datetime.fromtimestamp(exchange.model.clock() + node.clock_offset_seconds, UTC)
    return reply({"uuids": found}, headers={"Date": now.strftime("%a, %d %b %Y %H:%M:%S GMT")})


def _described(exchange: Exchange, name: str) -> dict[str, Any]:
    try:
        return {"key": name, "info": database_info(exchange.model, exchange.node, name)}
    except errors.RefusalError as error:
        return {"key": name, "error": error.error}


def _shown(user: User) -> str | None:
    return None if user.name is None else ids.shown(user.name)


def set_cookie(exchange: Exchange, value: str) -> str:
    """Return the header with a session cookie. An empty value takes the cookie back."""
    expiry = datetime.fromtimestamp(exchange.model.clock() + SESSION_SECONDS, UTC)
    when = expiry.strftime("%a, %d-%b-%Y %H:%M:%S GMT")
    return f"{COOKIE}={value}; Version=1; Expires={when}; Max-Age={SESSION_SECONDS}; Path=/; HttpOnly"
