"""The two requests that serve a user, made by a plain loop. No daemon can do with less."""

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from queue import SimpleQueue

import msgspec
import requests

from bench.harness.cluster import PREFIX, Cluster, ClusterError
from peruserd.core.common.names import database_name
from peruserd.core.configuration.config import DatabasesConfig

_JSON = {"Content-Type": "application/json"}


class Bare:
    """The bare requests, from any number of threads. Each thread has a connection of its own to each node."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._local = threading.local()
        self._query = f"?q={DatabasesConfig().q}"

    def serve(self, name: str, number: int) -> None:
        """Create and secure a user's database through a node; raises ClusterError where that fails."""
        http = self._session()
        path = f"{self._cluster.urls[number % len(self._cluster.urls)]}/{database_name(PREFIX, name)}"
        _expect(http.put(path + self._query, timeout=120.0), 201)
        group = {"names": [name], "roles": ["_admin"]}
        body = msgspec.json.encode({"admins": group, "members": group})
        _expect(http.put(f"{path}/_security", data=body, headers=_JSON, timeout=120.0), 200)

    def serve_all(self, groups: Iterable[Sequence[str]], in_flight: int) -> None:
        """Serve the users of all groups, as the groups come, so many users at once."""
        queue: SimpleQueue[tuple[int, str] | None] = SimpleQueue()

        def work() -> None:
            while (item := queue.get()) is not None:
                number, name = item
                self.serve(name, number)

        with ThreadPoolExecutor(in_flight) as pool:
            workers = [pool.submit(work) for _ in range(in_flight)]
            try:
                for item in enumerate(chain.from_iterable(groups)):
                    queue.put(item)
            finally:
                # The pool ends only when its threads do, also where no more users come because of an error.
                for _ in workers:
                    queue.put(None)
            for worker in workers:
                worker.result()

    def read_all(self, names: Sequence[str], in_flight: int) -> float:
        """Read the security object of each user's database; return how many seconds that took."""
        urls = self._cluster.urls

        def read(numbered: tuple[int, str]) -> None:
            number, name = numbered
            _expect(
                self._session().get(
                    f"{urls[number % len(urls)]}/{database_name(PREFIX, name)}/_security", timeout=120.0
                ),
                200,
            )

        begin = time.monotonic()
        with ThreadPoolExecutor(in_flight) as pool:
            for _ in pool.map(read, enumerate(names)):
                pass
        return time.monotonic() - begin

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = self._cluster.another_session()
        http: requests.Session = self._local.http
        return http


def _expect(answer: requests.Response, status: int) -> None:
    if answer.status_code != status:
        raise ClusterError(
            f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {answer.text[:200]}"
        )
