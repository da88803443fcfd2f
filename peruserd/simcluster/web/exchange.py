"""One request to a node, and the answers it can be given."""

from collections.abc import Callable
from hashlib import md5
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from peruserd.simcluster import documents, errors, ids
from peruserd.simcluster.accounts import COOKIE, Accounts, User, may_administer, require_member, require_server_admin
from peruserd.simcluster.listing import Listings
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.splitting import Splitter
from peruserd.simcluster.tally import Tally
from peruserd.simcluster.users import Writer

_HEADERS: Final = {
    "Cache-Control": "must-revalidate",
    "Content-Type": "application/json",
    "Server": "CouchDB/3.5.0 (Erlang OTP/25) peruserd-simcluster",
}

encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Services(msgspec.Struct, frozen=True):
    """The parts that all nodes of one cluster share."""

    model: ClusterModel
    splitter: Splitter
    accounts: Accounts
    tally: Tally
    listings: Listings
    # Told of new split jobs, which something with a clock has to run.
    on_split: Callable[[], None]
    # Told which section of a node's configuration was changed.
    on_config: Callable[[str], None]


class Exchange:
    """A request on its way: the node that was asked, who asks, the path's segments as sent, the query."""

    __slots__ = ("method", "model", "node", "query", "request", "segments", "services", "user")

    def __init__(self, services: Services, node: Node, request: web.BaseRequest, path: str) -> None:
        route, _, query = path.partition("?")
        self.services = services
        self.model = services.model
        self.node = node
        self.request = request
        self.method = "GET" if request.method == "HEAD" else request.method
        self.segments = [segment for segment in route.split("/")[1:] if segment]
        self.query: dict[str, str] = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        self.user = User()

    @property
    def database(self) -> str:
        """The name of the database that the path begins with."""
        return unquote(self.segments[0])

    @property
    def address(self) -> str:
        """The client's address: what a proxy says it is, since all clients here are near enough to be believed."""
        forwarded = self.request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return forwarded or self.request.remote or ""

    def rest(self, start: int) -> str:
        """Return the path's segments from `start` on, decoded; bytes that are no UTF-8 are kept, as in an id."""
        return ids.from_path("/".join(self.segments[start:]))

    async def json(self) -> Any:
        """Return the body; refuses what is not JSON."""
        try:
            return _decode(await self.request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise errors.bad_request("invalid UTF-8 JSON") from error

    async def object(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object."""
        body = await self.json()
        if not isinstance(body, dict):
            raise errors.bad_request("Request body must be a JSON object")
        return body

    def flag(self, name: str) -> bool:
        """Return a yes-or-no parameter of the query."""
        return self.query.get(name) == "true"

    def number(self, name: str, default: int) -> int:
        """Return a parameter of the query that is a whole number, not negative; refuses anything else."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise errors.RefusalError(400, "query_parse_error", f"Invalid value for integer parameter {name}: {text}")
        return int(text)

    def key(self, *names: str) -> str | None:
        """Return the first of these parameters that the query has, which is text in JSON."""
        for name in names:
            if name in self.query:
                try:
                    return msgspec.json.decode(self.query[name], type=str)
                except msgspec.DecodeError as error:
                    raise errors.bad_request(f"Invalid JSON in {name}") from error
        return None

    def json_list(self, name: str) -> list[Any] | None:
        """Return a parameter of the query that is a JSON list, None where it is not there."""
        text = self.query.get(name)
        if text is None:
            return None
        try:
            return msgspec.json.decode(text, type=list)
        except msgspec.DecodeError as error:
            raise errors.bad_request(f"Invalid JSON in {name}") from error

    def key_or_text(self, name: str, default: str) -> str:
        """Return a parameter of the query that is text, in JSON's quotation marks or without."""
        return self.query.get(name, default).removeprefix('"').removesuffix('"')

    def identify(self) -> None:
        """Find out who asks, by what the node knows that was asked."""
        authorization, cookie = self._carried()
        self.user = self.services.accounts.identify(self.node, authorization, cookie, self.address)

    def identify_at(self, node: Node) -> None:
        """Find out again who asks, by what another node knows to which the request is handed on."""
        self.user = self.services.accounts.identify_relayed(node, *self._carried())

    def _carried(self) -> tuple[str | None, str | None]:
        headers = self.request.headers
        return headers.get("Authorization"), self.request.cookies.get(COOKIE) if "Cookie" in headers else None

    def require_admin(self) -> None:
        """Refuse everybody but server admins."""
        require_server_admin(self.user)

    def require_member(self) -> None:
        """Refuse who may not use the database; a missing database is refused first."""
        if self.user.is_admin:
            self.model.map_of(self.node, self.database)
        else:
            require_member(self.user, documents.read_security(self.model, self.node, self.database))

    def require_lister(self) -> None:
        """Refuse who may not list the documents of the database or follow it: `_users` is for server admins."""
        if self.database == AUTH_DATABASE:
            self.require_admin()
        self.require_member()

    def writer(self) -> Writer:
        """Return who asks, as the rules for user documents see it."""
        user = self.user
        admin = user.is_admin or may_administer(user, documents.read_security(self.model, self.node, self.database))
        return Writer(user.name, user.is_admin, admin)

    def location(self, *parts: str) -> str:
        """Return the address of something on this node."""
        return f"http://{self.request.host}/{'/'.join(parts)}"


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return raw_reply(encode(body) + b"\n", status, headers)


def raw_reply(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Answer with text that is JSON already."""
    return web.Response(body=body, status=status, headers=_HEADERS | headers if headers else _HEADERS)


def stream_reply() -> web.StreamResponse:
    """Return an answer that is sent piece by piece."""
    answer = web.StreamResponse(headers=_HEADERS)
    answer.enable_chunked_encoding()
    return answer


def refusal(error: errors.RefusalError) -> web.Response:
    """Answer with an error."""
    body: dict[str, object] = {"error": error.error, "reason": error.reason}
    if error.ref is not None:
        body["ref"] = error.ref
    return reply(body, error.status)


def etag(*values: Any) -> dict[str, str]:
    """Return a header that names the state of what is answered."""
    digest = md5(encode(values), usedforsecurity=False).hexdigest()
    return {"ETag": f'"{digest[:25].upper()}"'}
