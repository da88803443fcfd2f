"""The cluster of system tests: the simulated one, or a real one given by PERUSERD_TEST_CLUSTER.

`PERUSERD_TEST_CLUSTER=url1,url2,url3` gives each node's URL with an admin's credentials. On such a cluster a test
changes only its own things: it uses names of its own, and deletes everything that it has made.
"""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests

from peruserd.core.cluster.leases import Role
from peruserd.core.common.names import UnservableNameError, database_name, user_document_id
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import ShardMap
from peruserd.core.users.security import is_private
from peruserd.simcluster import ClusterOptions, ControlClient, SimClusterThread
from tests.waiting import eventually

REAL_URLS: Final = [url for url in os.environ.get("PERUSERD_TEST_CLUSTER", "").split(",") if url]

PREFIX: Final = "userdb-"
LEASES: Final = "peruserd"
_TIMEOUT_SECONDS: Final = 120.0

# The key is already derived, because a real server takes a fifth of a second of processor time to derive one.
_DERIVED: Final = {"password_scheme": "pbkdf2", "iterations": 10, "salt": "73616c74", "derived_key": "00" * 20}


class Target:
    """A cluster to test on. `sim` are the simulated one's controls, None on a real one."""

    def __init__(self, urls: Sequence[str], sim: ControlClient | None = None) -> None:
        parts = [urlsplit(url) for url in urls]
        self.urls = [f"{each.scheme}://{each.hostname}:{each.port}" for each in parts]
        self.username, self.password = parts[0].username or "", parts[0].password or ""
        self.sim = sim
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.auth = (self.username, self.password)
        self._made: set[str] = set()

    def another(self) -> "Target":
        """Return the same cluster for another thread; both are cleaned up together."""
        other = Target(
            [f"http://{self.username}:{self.password}@{urlsplit(url).netloc}" for url in self.urls], self.sim
        )
        other._made = self._made
        return other

    def new_names(self, count: int) -> list[str]:
        """Return names that no other test or user has."""
        group = secrets.token_hex(4)
        return [f"t{group}-{number}" for number in range(count)]

    def sign_up(self, names: Sequence[str], node: int = 1) -> None:
        """Write all user documents in one request to a node (counted from 1)."""
        self._made.update(names)
        documents = [
            {"_id": user_document_id(name), "name": name, "type": "user", "roles": [], **_DERIVED} for name in names
        ]
        answer = self.request("POST", "/_users/_bulk_docs", node=node, json={"docs": documents})
        assert answer.status_code in (201, 202), answer.text
        # A busy CouchDB may write a document twice within one request, and then reports its own first write as a
        # conflict.
        failed = [row for row in answer.json() if row.get("error", "conflict") != "conflict"]
        assert not failed, failed

    def delete_user(self, name: str) -> None:
        """Delete a user document."""
        path = f"/_users/{quote(user_document_id(name), safe='')}"
        revision = self.request("GET", path).json()["_rev"]
        answer = self.request("DELETE", path, params={"rev": revision})
        assert answer.status_code in (200, 202), answer.text

    def set_peruser(self, *, on: bool) -> None:
        """Switch CouchDB's own couch_peruser on or off, as an operator does; on a real cluster at the first node."""
        if self.sim is not None:
            self.sim.set_peruser(on=on)
            return
        value = "true" if on else "false"
        answer = self.request("PUT", "/_node/_local/_config/couch_peruser/enable", json=value)
        assert answer.status_code == 200, answer.text

    def security(self, name: str, node: int = 1) -> dict[str, Any] | None:
        """Return the security object of a user's database as a node has it, or None while there is no database."""
        answer = self.request("GET", f"/{database_name(PREFIX, name)}/_security", node=node)
        assert answer.status_code in (200, 404), answer.text
        return None if answer.status_code == 404 else answer.json()

    def is_served(self, name: str) -> bool:
        """Say whether a user's database exists and is private; on the simulated cluster, in every copy."""
        if self.sim is None:
            found = self.security(name)
            return found is not None and is_private(found, name)
        copies = self.copies(name)
        return bool(copies) and all(is_private(each, name) for each in copies)

    def copies(self, name: str) -> list[dict[str, Any]]:
        """Return the security object of every copy of a user's database (simulated cluster only)."""
        assert self.sim is not None
        try:
            by_node = self.sim.snapshot_security(database_name(PREFIX, name))
        except LookupError:
            return []
        return [each for copies in by_node.values() for each in copies.values()]

    def serve(self, count: int) -> list[str]:
        """Let new users sign up, and wait until each is served; return their names."""
        names = self.new_names(count)
        self.sign_up(names)
        eventually(lambda: not self.unserved(names), "the users are served")
        return names

    def unserved(self, names: Iterable[str]) -> list[str]:
        """Return the users without a correct database."""
        return [name for name in names if not self.is_served(name)]

    def disagreeing(self, names: Sequence[str]) -> list[str]:
        """Return the users whose database has copies with different security objects."""
        return [name for name in names if any(each != copies[0] for copies in [self.copies(name)] for each in copies)]

    def node_names(self) -> list[str]:
        """Return the nodes' names, in the order of their numbers."""
        return [
            self.request("GET", "/_node/_local", node=number).json()["name"] for number in range(1, len(self.urls) + 1)
        ]

    def shard_map(self) -> ShardMap:
        """Return the shard map of the authentication database."""
        document = self.request("GET", "/_node/_local/_dbs/_users").json()
        return ShardMap.build("_users", bytes(document["shard_suffix"]).decode(), document["by_range"])

    def owners(self, names: Sequence[str], instances: Sequence[str]) -> dict[str, str | None]:
        """Return the owner of each user while only these nodes have a live instance."""
        shard_map = self.shard_map()
        owners = {}
        for name in names:
            document_id = user_document_id(name)
            covered = shard_map.ranges_holding(document_hash(document_id))[0]
            owners[name] = Ownership.of(shard_map, covered, instances).owner(document_id)
        return owners

    def clean(self) -> None:
        """Delete the users and databases that were made, and the leases of the killed instances."""
        for node in self.request("GET", "/_membership").json()["all_nodes"]:
            for role in Role:
                self.request("DELETE", f"/{LEASES}/_local/peruserd.{role.value}.{quote(node, safe='')}")
        names = sorted(self._made)
        for start in range(0, len(names), 500):
            ids = [user_document_id(name) for name in names[start : start + 500]]
            rows = self.request("POST", "/_users/_all_docs", json={"keys": ids}).json().get("rows", [])
            live = [row for row in rows if "value" in row and row["value"] and not row["value"].get("deleted")]
            gone = [{"_id": row["id"], "_rev": row["value"]["rev"], "_deleted": True} for row in live]
            self.request("POST", "/_users/_bulk_docs", json={"docs": gone})
        # The requests run in parallel, because a real cluster takes a tenth of a second for each.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._drop_database, names))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _drop_database(self, name: str) -> None:
        try:
            self.request("DELETE", f"/{database_name(PREFIX, name)}")
        except UnservableNameError:
            # Such a user never had a database.
            return

    def request(self, method: str, path: str, node: int = 1, **options: Any) -> requests.Response:
        """Send a request to a node (counted from 1)."""
        return self._http.request(method, self.urls[node - 1] + path, timeout=_TIMEOUT_SECONDS, **options)


@contextmanager
def open_target(options: ClusterOptions) -> Iterator[Target]:
    """Give the real cluster where there is one, otherwise a fresh simulated one."""
    if REAL_URLS:
        target = Target(REAL_URLS)
        try:
            yield target
        finally:
            target.clean()
            target.close()
    else:
        with open_simulated(options) as target:
            yield target


@contextmanager
def open_simulated(options: ClusterOptions) -> Iterator[Target]:
    """Give a fresh simulated cluster, in a thread: a process would have to import it anew for each test."""
    with SimClusterThread(options) as sim:
        target = Target(sim.urls, sim)
        try:
            yield target
        finally:
            target.close()
