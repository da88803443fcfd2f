"""One node's HTTP server. Its socket can be closed and opened again, like a process that is killed and restarted."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from peruserd.simcluster.model import errors
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.web.exchange import Exchange, Services, refusal, reply
from peruserd.simcluster.web.faults import Faults, error_body
from peruserd.simcluster.web.router import page_of, route
from peruserd.simcluster.web.server_pages import set_cookie

_HOST: Final = "127.0.0.1"
# The methods of clustered writes, which `request_seconds` makes slower.
_WRITES: Final = frozenset({"PUT", "POST", "DELETE"})


class Listener:
    """A port on the loopback interface with one handler. It keeps its number when it is opened again."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], port: int) -> None:
        self.port = port
        self._handler = handler
        self._server: web.Server | None = None
        self._socket: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. OSError where the port is taken."""
        server = web.Server(self._handler, access_log=None, handler_cancellation=True)
        self._socket = await asyncio.get_running_loop().create_server(
            server, _HOST, self.port, backlog=1024, reuse_address=True
        )
        self._server = server
        self.port = self._socket.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut all connections at once, also in the middle of an answer, and stop listening."""
        if self._socket is None or self._server is None:
            return
        self._socket.close()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        # Each connection notices at the loop's next turn, and its handler is cancelled then.
        await asyncio.sleep(0)
        await self._server.shutdown(0)
        await self._socket.wait_closed()
        self._socket = self._server = None


class NodeServer:
    """Serves one node."""

    def __init__(self, services: Services, faults: Faults, node: Node, port: int) -> None:
        self.node = node
        self.listener = Listener(self._handle, port)
        self._services = services
        self._faults = faults
        self._never = asyncio.Event()

    @property
    def url(self) -> str:
        """The address, with the server admin's credentials."""
        return f"http://{self._services.model.options.user}@{_HOST}:{self.listener.port}"

    def release(self) -> None:
        """Cut the connections of requests that were made to hang."""
        never, self._never = self._never, asyncio.Event()
        never.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        exchange = Exchange(self._services, self.node, request, path)
        kind, pages = route(exchange.segments)
        self._services.request_log.count(self.node.name, request.method, kind, exchange.segments)
        outcome = None
        if self._faults.any:
            await asyncio.sleep(self._faults.lateness(self.node.name, path))
            outcome = self._faults.draw(self.node.name, request.method, path)
        if isinstance(outcome, int):
            await request.read()
            return reply(error_body(outcome), outcome)
        if outcome == "hang":
            await self._never.wait()
        if outcome in ("cut", "hang"):
            return _cut(request)
        try:
            seconds = self._services.model.options.request_seconds
            if seconds and request.method in _WRITES and exchange.segments[:1] != ["_node"]:
                await asyncio.sleep(seconds)
            exchange.identify()
            answer = await page_of(exchange, pages)(exchange)
            if exchange.user.renewed is not None and not answer.prepared:
                answer.headers.setdefault("Set-Cookie", set_cookie(exchange, exchange.user.renewed))
        except errors.RefusalError as error:
            answer = refusal(error)
        if outcome == "cut-after":
            return _cut(request)
        if outcome == "cut-mid":
            return await _cut_in_the_middle(request, answer)
        return answer


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut_in_the_middle(request: web.BaseRequest, answer: web.StreamResponse) -> web.StreamResponse:
    body = answer.body if isinstance(answer, web.Response) else b""
    if request.transport is not None and isinstance(body, bytes):
        head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        request.transport.write(head.encode() + body[: len(body) // 2])
        request.transport.close()
    return web.Response()
