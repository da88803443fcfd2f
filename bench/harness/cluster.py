"""The measured cluster: a real one, given by its nodes' URLs, or a simulated one made for the run.

Every user of the run has the run's tag in the name. `clean` deletes their databases and purges their documents. The
documents are not deleted, because a tombstone whose database is gone stops couch_peruser for good. The instances' own
database stays for the next run.
"""

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import ShardMap
from peruserd.core.users.security import is_private
from peruserd.simcluster import ClusterOptions, SimClusterProcess

PREFIX: Final = "userdb-"
AUTH_DATABASE: Final = "_users"

# Requests at once where their time is not measured: as many as a cluster on a few cores answers quickly.
_AT_ONCE: Final = 16
_TIMEOUT_SECONDS: Final = 120.0

# After many deletions a node goes on cleaning up for a moment, and the next contender would pay for it.
REST_SECONDS: Final = 5.0

# The number of documents that `_purge` takes by default.
_MAX_PURGED: Final = 100
_MAX_WRITTEN: Final = 500

# The key is derived already. A server takes a fifth of a second of processor time for it, which is not measured.
_DERIVED: Final = {"password_scheme": "pbkdf2", "iterations": 10, "salt": "73616c74", "derived_key": "00" * 20}


class ClusterError(Exception):
    """The cluster cannot be used, or does something wrong; the message says which, and what to do."""


class Cluster:
    """A cluster to measure on. `urls` are those of the nodes without credentials, `nodes` their names in that order.

    `sim` has the controls of a simulated cluster, and is None for a real one. After a real one is cleaned it gets
    `rest_seconds`. The methods can be called from several threads.
    """

    def __init__(
        self, urls: Sequence[str], sim: SimClusterProcess | None = None, *, rest_seconds: float = REST_SECONDS
    ) -> None:
        parts = [urlsplit(url) for url in urls]
        self.urls = [f"{each.scheme}://{each.hostname}:{each.port}" for each in parts]
        self.credentials = parts[0].username or "", parts[0].password or ""
        self.sim = sim
        self._rest_seconds = rest_seconds
        self.http = http_session(self.credentials)
        self.tag = secrets.token_hex(3)
        self._made: list[str] = []
        self._count = 0
        self.nodes = [self._node_name(number) for number in range(len(urls))]

    @property
    def urls_with_credentials(self) -> list[str]:
        """Return the nodes' URLs with credentials."""
        user, password = (quote(each, safe="") for each in self.credentials)
        return [url.replace("://", f"://{user}:{password}@") for url in self.urls]

    def request(self, method: str, path: str, *, node: int = 0, **options: Any) -> requests.Response:
        """Make a request of a node; raises ClusterError where it cannot be reached."""
        try:
            return self.http.request(
                method, self.urls[node % len(self.urls)] + path, timeout=_TIMEOUT_SECONDS, **options
            )
        except requests.RequestException as error:
            raise ClusterError(f"{method} {path}: {error}") from error

    def ask(self, path: str, *, node: int = 0) -> Any:
        """Return the answer of a node to a GET; raises ClusterError where that is no 200."""
        answer = self.request("GET", path, node=node)
        if answer.status_code != 200:
            raise ClusterError(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()

    def another_session(self) -> requests.Session:
        """Return a session for a thread that makes many requests."""
        return http_session(self.credentials)

    def version(self) -> str:
        """Return the version of the server, and whether it is simulated."""
        welcome = self.ask("/")
        return f"{'simulated ' if self.sim else ''}CouchDB {welcome.get('version', 'unknown')}"

    def users(self) -> int:
        """Return the number of documents in the authentication database, design documents among them."""
        return int(self.ask(f"/{AUTH_DATABASE}")["doc_count"])

    def user_databases(self) -> list[str]:
        """Return the first few user databases."""
        query = f"start_key={quote(_json(PREFIX))}&end_key={quote(_json(PREFIX + chr(0xFFF0)))}&limit=5"
        return list(self.ask(f"/_all_dbs?{query}"))

    def database_count(self) -> int:
        """Return how many databases the first node knows of. This costs the cluster next to nothing."""
        return int(self.ask("/_node/_local/_dbs")["doc_count"])

    def shard_map(self) -> ShardMap:
        """Return the shard map of the authentication database."""
        document = self.ask(f"/_node/_local/_dbs/{AUTH_DATABASE}")
        return ShardMap.build(AUTH_DATABASE, bytes(document["shard_suffix"]).decode(), document["by_range"])

    def owners(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return by user the node whose instance owns the document, while every node has an instance."""
        shard_map = self.shard_map()
        owned = {each: Ownership.of(shard_map, each, self.nodes) for each in shard_map.hosts}
        found = {}
        for name in names:
            document_id = user_document_id(name)
            found[name] = owned[shard_map.ranges_holding(document_hash(document_id))[0]].owner(document_id)
        return found

    # Users

    def new_names(self, count: int) -> list[str]:
        """Return names that no user has. Users and databases of these names are removed by `clean`."""
        begin, self._count = self._count, self._count + count
        names = [f"bench-{self.tag}-{number:06d}" for number in range(begin, begin + count)]
        self._made += names
        return names

    def sign_up(self, names: Sequence[str]) -> None:
        """Write the user documents of all these users, some hundreds in a request, to the nodes in turn."""
        for number, group in enumerate(_groups(names, _MAX_WRITTEN)):
            body = {"docs": [user_document(name) for name in group]}
            answer = self.request("POST", f"/{AUTH_DATABASE}/_bulk_docs", node=number, json=body)
            failed = (
                [row for row in answer.json() if "error" in row] if answer.status_code in (201, 202) else answer.text
            )
            if failed:
                raise ClusterError(f"user documents cannot be written: {failed[:200]}")

    def unserved(self, names: Iterable[str]) -> list[str]:
        """Return those of these users who have no secured database, as a clustered read shows it."""
        names = list(names)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [name for name, right in zip(names, pool.map(self.is_served, names), strict=True) if not right]

    def is_served(self, name: str) -> bool:
        """Say whether a user has a database that is secured for them alone."""
        answer = self.request("GET", f"/{database_name(PREFIX, name)}/_security")
        return answer.status_code == 200 and is_private(answer.json(), name)

    def remove(self, name: str) -> None:
        """Remove a user while others are served. The document goes first, or the database would be made again."""
        self._purge([name])
        self._delete_database(name)

    def clean(self) -> None:
        """Remove every user and database of the run. Nothing may be serving users meanwhile."""
        names = self._made
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._delete_database, names))
        for group in _groups(names, _MAX_PURGED):
            self._purge(group)
        # Names are forgotten last, so the next call completes one that was interrupted.
        self._made = []
        if names and self.sim is None:
            time.sleep(self._rest_seconds)

    def _delete_database(self, name: str) -> None:
        answer = self.request("DELETE", f"/{database_name(PREFIX, name)}")
        if answer.status_code not in (200, 202, 404):
            raise ClusterError(f"{name}: the database cannot be deleted: {answer.text[:200]}")

    def _purge(self, names: Sequence[str]) -> None:
        keys = [user_document_id(name) for name in names]
        rows = self.request("POST", f"/{AUTH_DATABASE}/_all_docs", json={"keys": keys}).json()["rows"]
        revisions = {
            row["id"]: [row["value"]["rev"]] for row in rows if "value" in row and "deleted" not in row["value"]
        }
        if not revisions:
            return
        answer = self.request("POST", f"/{AUTH_DATABASE}/_purge", json=revisions)
        if answer.status_code not in (200, 201, 202):
            raise ClusterError(f"users cannot be purged: {answer.status_code} {answer.text[:200]}")

    def _node_name(self, number: int) -> str:
        return str(self.ask("/_node/_local", node=number)["name"])


@contextmanager
def open_cluster(
    urls: Sequence[str], simulated: ClusterOptions | None = None, *, rest_seconds: float = REST_SECONDS
) -> Iterator[Cluster]:
    """Give the cluster with these URLs, or a simulated one where there are none. At the end it is cleaned."""
    if urls:
        cluster = Cluster(urls, rest_seconds=rest_seconds)
        try:
            yield cluster
        finally:
            cluster.clean()
        return
    with SimClusterProcess(simulated or ClusterOptions()) as sim:
        user = sim.options.user
        yield Cluster([url if "@" in url else url.replace("://", f"://{user}@") for url in sim.urls], sim)


def user_document(name: str) -> dict[str, Any]:
    """Return the document of a user who signs up."""
    return {"_id": user_document_id(name), "name": name, "type": "user", "roles": [], **_DERIVED}


def http_session(credentials: tuple[str, str], connections: int = 64) -> requests.Session:
    """Return a session that the environment cannot redirect."""
    session = requests.Session()
    session.trust_env = False
    session.auth = credentials
    session.mount("http://", HTTPAdapter(pool_maxsize=connections))
    return session


def _groups(items: Sequence[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _json(value: str) -> str:
    return msgspec.json.encode(value).decode()
