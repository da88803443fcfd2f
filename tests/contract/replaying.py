"""Making recorded exchanges again, of a cluster that is brought into the states of the recording."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.contract.comparing import HEADERS, Comparison
from tests.contract.recordings import CREDENTIALS, EXCHANGES, HANDING_OVER, SPLIT_SEEN_FROM, Recorded


class Cluster:
    """The cluster that the exchanges are made of again: its nodes' addresses, and how its states are brought about."""

    def __init__(self, urls: list[str], simulated: SimClusterThread | None, exchanges: list[Recorded]) -> None:
        self._exchanges = exchanges
        self.urls = [urlsplit(url) for url in urls]
        self._simulated = simulated
        self._session = requests.Session()
        self._session.trust_env = False
        names = [self._answer(number, "GET", "/_node/_local").json()["name"] for number in (1, 2, 3)]
        self._comparison = Comparison(names, strict=simulated is not None)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def replay(self, index: int) -> list[str]:
        """Make one exchange again, and return how it differs from the recording."""
        exchange = self._exchanges[index]
        if self._simulated:
            self._enter(self._simulated, index)
        try:
            answer = self._answer(
                exchange.node,
                exchange.method,
                self._comparison.translate(exchange.path),
                self._comparison.translate_body(exchange.body),
                exchange.request_headers,
                self._credentials(exchange),
            )
        except requests.ConnectionError:
            return [] if exchange.status is None else ["no answer"]
        if answer.status_code not in self._comparison.statuses(exchange.status):
            return [f"status: recorded {exchange.status}, answered {answer.status_code}: {answer.text:.200}"]
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        differences = list(self._comparison.differences(exchange.response, body))
        differences += [
            f"the header {name} is in one and not in the other"
            for name in HEADERS
            if (name in exchange.headers) != (name in answer.headers)
        ]
        if self._simulated and "Location" in exchange.headers:
            recorded, answered = (urlsplit(each["Location"]) for each in (exchange.headers, answer.headers))
            if recorded.path != answered.path:
                differences.append(f"Location: recorded {recorded.path}, answered {answered.path}")
        return differences

    def create(self, path: str) -> None:
        """Create a database."""
        self._answer(1, "PUT", path)

    def delete(self, path: str) -> None:
        """Delete a database or document."""
        self._answer(1, "DELETE", path)

    def exists(self, path: str) -> bool:
        """Say whether there is something at a path."""
        return self._answer(1, "HEAD", path).status_code == 200

    def has_two_ranges(self) -> bool:
        """Say whether the authentication database is cut as in the recording."""
        return len(self._answer(1, "GET", "/_users/_shards").json()["shards"]) == 2

    def _enter(self, simulated: SimClusterThread, index: int) -> None:
        """Bring about the state of an exchange where it is the first of that state."""
        if self._exchanges is EXCHANGES and index == SPLIT_SEEN_FROM:
            simulated.release_splits()
        if index and self._exchanges[index - 1].state == self._exchanges[index].state:
            return
        match self._exchanges[index].state:
            case "ranges split":
                simulated.split("_users")
                simulated.release_splits()
            case "node2 and node3 down" if self._exchanges is HANDING_OVER:
                simulated.stop_node(2)
                simulated.stop_node(3)
            case "node3 back":
                simulated.start_node(3)
                simulated.replicate()
            case "node3 down":
                simulated.stop_node(3)
            case "node2 and node3 down":
                simulated.stop_node(2)
            case "all nodes back":
                simulated.start_node(2)
                simulated.start_node(3)
                simulated.replicate()

    def _credentials(self, exchange: Recorded) -> tuple[str, str] | None:
        if not exchange.authenticated:
            return None
        if exchange.credentials is not None:
            name, _, password = exchange.credentials.partition(":")
            return name, password
        url = self.urls[exchange.node - 1]
        return CREDENTIALS.get(exchange.case, (url.username or "", url.password or ""))

    def _answer(
        self,
        node: int,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> requests.Response:
        url = self.urls[node - 1]
        if credentials is None and headers is None:
            credentials = (url.username or "", url.password or "")
        if body is not None and not isinstance(body, str):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        elif isinstance(body, str):
            body = body.encode()
        # Each recorded exchange stood alone: what a session was given before must not speak for it.
        self._session.cookies.clear()
        address = f"http://{url.hostname}:{url.port}{path}"
        return self._session.request(
            method, address, data=body, headers=headers, auth=credentials, timeout=60, allow_redirects=False
        )


def replay_simulated(
    exchanges: list[Recorded], prepare: Callable[[SimClusterThread, Cluster], None] = lambda *_: None
) -> list[list[str]]:
    """Make all exchanges of a fresh simulated cluster, in the recorded order; return how each differs.

    `prepare` is called before the first.
    """
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as simulated:
        simulated.set_split_delay(None)
        cluster = Cluster(simulated.urls, simulated, exchanges)
        try:
            prepare(simulated, cluster)
            return [cluster.replay(index) for index in range(len(exchanges))]
        finally:
            cluster.close()
