"""The simulated cluster in a thread of its own, for tests. Every thread can call its controls."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Any, Self

from peruserd.simcluster.cluster_server import ClusterServer
from peruserd.simcluster.control_client import ControlClient
from peruserd.simcluster.control_port import perform
from peruserd.simcluster.controls import Controls
from peruserd.simcluster.options import ClusterOptions


class SimClusterThread(ControlClient):
    """A context manager that runs a cluster from entry to exit. Entry raises OSError where a port is taken."""

    def __init__(self, options: ClusterOptions | None = None) -> None:
        self.options = options or ClusterOptions()
        self.urls: list[str] = []
        self.node_names: list[str] = []
        self.control_url: str | None = None
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._controls: Controls | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        """Start the cluster and return when its ports are open."""
        ready: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(ready,), name="simcluster", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the cluster and wait until its thread is gone."""
        if self._loop and self._stop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if self._loop is None or self._controls is None:
            raise RuntimeError("the cluster is not running")
        return asyncio.run_coroutine_threadsafe(perform(self._controls, name, arguments), self._loop).result()

    def _run(self, ready: "Future[None]") -> None:
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: "Future[None]") -> None:
        try:
            server = ClusterServer(self.options)
            await server.start()
        except Exception as error:  # noqa: BLE001 - it is raised again in the thread that asked
            ready.set_exception(error)
            return
        self._controls = server.controls
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.urls = server.cluster.urls
        self.node_names = [node.name for node in server.cluster.model.nodes]
        self.control_url = server.control_url
        ready.set_result(None)
        await self._stop.wait()
        await server.stop()
