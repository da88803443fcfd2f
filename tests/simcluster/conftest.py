"""A simulated cluster in a thread, and a client that is nobody's library."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.waiting import eventually

Ask = Callable[..., requests.Response]


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes, the authentication database with two ranges."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def ask(cluster: SimClusterThread) -> Ask:
    """Make a request to a node: `ask(method, path, body, node=1)`. Several threads can do so at once.

    The user is the server admin, or the one in `auth`. With `nobody=True` the request has no credentials.
    """

    def make(
        method: str, path: str, body: Any = None, *, node: int = 1, nobody: bool = False, **more: Any
    ) -> requests.Response:
        # The path is sent as it is given: %2F must stay %2F.
        data = None if body is None else json.dumps(body)
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Content-Type": "application/json", **more.pop("headers", {})}
            url = cluster.urls[node - 1]
            if nobody:
                url = "http://" + url.rpartition("@")[2]
            return session.request(method, url + path, data=data, timeout=60, headers=headers, **more)

    return make


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def shard(ask: Ask) -> Callable[[str, str], str]:
    """Return the path of a shard, `shard(database, range)`, as `/_node/{name}` takes it."""

    def path(database: str, covered: str) -> str:
        document = ask("GET", f"/_node/_local/_dbs/{database}").json()
        suffix = "".join(map(chr, document["shard_suffix"]))
        return f"shards%2F{covered}%2F{database}{suffix}"

    return path


@pytest.fixture
def until_asked(cluster: SimClusterThread) -> Callable[[str, int], None]:
    """Wait until so many requests of a kind have arrived; each was acted on as far as it could be then."""

    def wait(kind: str, count: int) -> None:
        eventually(
            lambda: sum(each for key, each in cluster.requests().items() if key[2] == kind) >= count,
            f"{count} requests of the kind {kind} have arrived",
        )

    return wait
