"""One request to a node, and its possible answers."""

from collections.abc import Callable
from hashlib import md5
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from aiohttp import web

from peruserd.simcluster.accounts.accounts import (
    COOKIE,
    Accounts,
    User,
    may_administer,
    require_member,
    require_server_admin,
)
from peruserd.simcluster.accounts.user_documents import Writer
from peruserd.simcluster.events.splits import Splitter
from peruserd.simcluster.model import documents, errors, ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.options import AUTH_DATABASE
from peruserd.simcluster.web.request_log import RequestLog
from peruserd.simcluster.web.sorted_documents import SortedDocuments

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
    request_log: RequestLog
    sorted_documents: SortedDocuments
    # Called after new split jobs, because a driver with a clock has to run them.
    on_split: Callable[[], None]
    # Called with the section of a node's configuration that was changed.
    on_config: Callable[[str], None]


class Exchange:
    """A request and its context: the node that was asked, the user, the query, and the path's segments as sent."""

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
        return unquote_plus(self.segments[0])

    @property
    def address(self) -> str:
        """The client's address. The header of a proxy is believed, since all clients are on this machine."""
        forwarded = self.request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return forwarded or self.request.remote or ""

    def rest(self, start: int) -> str:
        """Return the decoded segments of the path from `start` on. Bytes that are no UTF-8 are kept, as in an id."""
        return ids.from_path("/".join(self.segments[start:]))

    async def json(self) -> Any:
        """Return the body. Refuses other bodies than JSON."""
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
        """Return a parameter of the query that is a whole number from 0. Refuses other values."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdecimal():
            raise errors.RefusalError(400, "query_parse_error", f"Invalid value for integer parameter {name}: {text}")
        return int(text)

    def key(self, *names: str) -> str | None:
        """Return the first of these parameters in the query, a text in JSON."""
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
        """Set the user of the request, by the accounts of the node that was asked."""
        authorization, cookie = self._carried()
        self.user = self.services.accounts.identify(self.node, authorization, cookie, self.address)

    def identify_at(self, node: Node) -> None:
        """Set the user of the request again, by the accounts of the node that it is handed on to."""
        self.user = self.services.accounts.identify_relayed(node, *self._carried())

    def _carried(self) -> tuple[str | None, str | None]:
        headers = self.request.headers
        return headers.get("Authorization"), self.request.cookies.get(COOKIE) if "Cookie" in headers else None

    def require_admin(self) -> None:
        """Refuse everybody but server admins."""
        require_server_admin(self.user)

    def require_member(self) -> None:
        """Refuse users without access to the database. A missing database is refused first."""
        if self.user.is_admin:
            self.model.map_of(self.node, self.database)
        else:
            require_member(self.user, documents.read_security(self.model, self.node, self.database))

    def require_lister(self) -> None:
        """Refuse users who may not list the documents or read the feed. `_users` is for server admins."""
        if self.database == AUTH_DATABASE:
            self.require_admin()
        self.require_member()

    def writer(self) -> Writer:
        """Return the user of the request in the terms of the rules for user documents."""
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
    """Return a header with the state of an answer."""
    digest = md5(encode(values), usedforsecurity=False).hexdigest()
    return {"ETag": f'"{digest[:25].upper()}"'}
