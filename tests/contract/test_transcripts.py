"""The recorded exchanges with a real CouchDB 3.5.0 cluster, made again.

The same requests in the same states must be answered with the same status and the same shape of body: the same keys and
types, and the same values where they do not depend on chance. They are made of the simulated cluster always, and of a
real one too where PERUSERD_TEST_CLUSTER names its nodes (`url1,url2,url3`, with credentials): there only what neither
kills nodes nor touches what the cluster holds, which shows that the recording is still true.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import requests

from peruserd.simcluster import ClusterOptions, SimClusterThread

DATA = Path(__file__).parent.parent / "data"


class Recorded(msgspec.Struct):
    case: str
    state: str
    node: int
    method: str
    path: str
    authenticated: bool
    request_headers: dict[str, str]
    body: Any
    status: int | None
    headers: dict[str, str]
    response: Any
    # Who asked, as `name:password`, where it was somebody else than the server admin.
    credentials: str | None = None


def read_recording(name: str) -> list[Recorded]:
    """Return the exchanges of a recording, in the order in which they were made."""
    return msgspec.json.decode((DATA / name).read_bytes(), type=list[Recorded])


EXCHANGES = read_recording("transcripts-3.5.0.json")
# What is new with leases, and what becomes of a security object when nodes return.
HANDING_OVER = read_recording("handing-over-3.5.0.json")
# The feed of a node's shard maps, by which a split is heard of.
DIRECTORY = read_recording("directory-3.5.0.json")
# What an enemy can do: an open `_users`, revisions of choice, odd ids, single copies, locked accounts.
ENEMY = read_recording("enemy-3.5.0.json")

# Exchanges that are not made again of the simulated cluster, and why.
LEFT_OUT: dict[int, str] = {}

# The users that were there when the recording began; their order gives the shards' sequences.
USERS = ("alice", "bob", "carol", "dave", "eve", "frank", "grace", "heidi", "iris", "jack", "kate", "liam")

# Who asked, where it was not the server admin.
BY_BOB = (
    "a user reads a database that is not theirs",
    "a plain user asks for membership",
    "a plain user asks for a shard",
    "a plain user creates a database",
)
CREDENTIALS = {"wrong password": ("adm", "bad"), **dict.fromkeys(BY_BOB, ("bob", "x"))}

# While a range was split, the recording saw it whole in its first two exchanges.
SPLIT_SEEN_FROM = 151

NODE = re.compile(r"node[123]@127\.0\.0\.1")
REV = re.compile(r"\d+-[0-9a-f]{32}")
HASH = re.compile(r"(?<=\")[0-9a-f]{32}(?=\")")
SUFFIX = re.compile(r"(?<=\.)\d{10}(?!\d)")

# Text that differs by chance; its look is compared.
CHANCE = (
    re.compile(r"001-[0-9a-f]{64}"),
    re.compile(r"\d+-[A-Za-z0-9_-]{12,}"),
    re.compile(r"-pbkdf2:sha256-[0-9a-f]{64},[0-9a-f]{32},\d+"),
)

# Values that depend on chance, on the server's build or on the moment: compared by type alone.
BY_TYPE = {
    *("uuid", "git_sha", "version", "features", "vendor"),
    *("instance_start_time", "purge_seq", "sizes", "disk_format_version"),
    *("salt", "derived_key", "iterations", "ref"),
    *("start_time", "update_time", "timestamp"),
}
# Lists in whose order the nodes' answers arrive.
ANY_ORDER = {"changelog", "jobs"}
HEADERS = ("Content-Type", "ETag", "Location", "Set-Cookie")


class Comparison:
    """Compares answers with recorded ones, and learns which recorded names stand for which new ones.

    `strict` also compares values and lengths; without it, the shape alone, and what errors say.
    """

    def __init__(self, node_names: list[str], *, strict: bool) -> None:
        self._strict = strict
        self._names = {f"node{number}@127.0.0.1": name for number, name in enumerate(node_names, start=1)}
        self._revs: dict[str, str] = {}
        self._suffixes: dict[str, str] = {}

    def statuses(self, recorded: int | None) -> tuple[int | None, ...]:
        """Return the statuses that are as good as the recorded one: a busy cluster answers before its majority has."""
        return (201, 202) if recorded == 201 and not self._strict else (recorded,)

    def translate(self, text: str) -> str:
        """Return recorded text with the names that the same things have here."""
        text = NODE.sub(lambda match: self._names[match[0]], text)
        text = REV.sub(lambda match: self._revs.get(match[0], match[0]), text)
        return SUFFIX.sub(lambda match: self._suffixes.get(match[0], match[0]), text)

    def translate_body(self, body: Any) -> Any:
        """Return a recorded body with the revisions that the same documents have here."""
        if body is None or isinstance(body, str):
            return body
        # `_revisions` gives the hashes of revisions without their numbers.
        hashes = {recorded.partition("-")[2]: answered.partition("-")[2] for recorded, answered in self._revs.items()}
        text = HASH.sub(lambda match: hashes.get(match[0], match[0]), self.translate(json.dumps(body)))
        return json.loads(text)

    def differences(self, recorded: Any, answered: Any, at: str = "body", key: str = "") -> Iterator[str]:
        """Yield what is not as recorded."""
        if type(recorded) is not type(answered):
            yield f"{at}: recorded {recorded!r:.100}, answered {answered!r:.100}"
        elif key in BY_TYPE:
            if isinstance(recorded, dict) and key == "sizes" and set(recorded) != set(answered):
                yield f"{at}: recorded {sorted(recorded)}, answered {sorted(answered)}"
        elif key == "shard_suffix":
            self._suffixes[_text(recorded)] = _text(answered)
        elif isinstance(recorded, dict):
            yield from self._objects(recorded, answered, at)
        elif isinstance(recorded, list):
            yield from self._lists(recorded, answered, at, key)
        elif isinstance(recorded, str):
            yield from self._strings(recorded, answered, at, key)
        elif recorded != answered and self._strict:
            yield f"{at}: recorded {recorded!r}, answered {answered!r}"

    def _objects(self, recorded: dict[str, Any], answered: dict[str, Any], at: str) -> Iterator[str]:
        # Whether a shard map has no properties or empty ones depends on how the database was made.
        recorded = {self.translate(each): value for each, value in recorded.items() if (each, value) != ("props", {})}
        answered = {each: value for each, value in answered.items() if (each, value) != ("props", {})}
        if set(recorded) != set(answered):
            yield f"{at}: recorded the keys {sorted(recorded)}, answered {sorted(answered)}"
            return
        for each, value in recorded.items():
            yield from self.differences(value, answered[each], f"{at}.{each}", each)

    def _lists(self, recorded: list[Any], answered: list[Any], at: str, key: str) -> Iterator[str]:
        if self._strict and len(recorded) != len(answered):
            yield f"{at}: recorded {len(recorded)} entries, answered {len(answered)}"
        if key in ANY_ORDER:
            recorded, answered = sorted(recorded, key=_without_chance), sorted(answered, key=_without_chance)
        for index, (one, other) in enumerate(zip(recorded, answered, strict=False)):
            yield from self.differences(one, other, f"{at}[{index}]", key)

    def _strings(self, recorded: str, answered: str, at: str, key: str) -> Iterator[str]:
        alike = None
        if REV.fullmatch(recorded):
            self._revs[recorded] = answered
            # A database made again under its name has a shard map document of a later generation.
            alike = REV.fullmatch(answered) and (not self._strict or _generation(recorded) == _generation(answered))
        elif pattern := next((each for each in CHANCE if each.fullmatch(recorded)), None):
            alike = pattern.fullmatch(answered)
        elif recorded.startswith('{"'):
            # A continuous feed: a line for each row.
            yield from self.differences(_rows(recorded), _rows(answered), at)
            return
        elif self._strict or key in ("error", "reason"):
            alike = self.translate(recorded) == answered
        else:
            return
        if not alike:
            yield f"{at}: recorded {recorded!r}, answered {answered!r}"


def _text(codes: list[int]) -> str:
    return bytes(codes).decode().removeprefix(".")


def _rows(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line]


def _without_chance(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return CHANCE[0].sub("", text)


def _generation(revision: str) -> str:
    return revision.partition("-")[0]


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


def _name(index: int) -> str:
    return _name_of(EXCHANGES, index)


def _name_of(exchanges: list[Recorded], index: int) -> str:
    exchange = exchanges[index]
    return f"{index:03d} {exchange.state}: {exchange.case}"


@pytest.fixture(scope="module")
def simulated_outcomes() -> dict[int, list[str]]:
    """All exchanges, made of the simulated cluster in the recorded order: how each differs."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as simulated:
        simulated.set_split_delay(None)
        for user in USERS:
            simulated.add_user(user, "x")
        cluster = Cluster(simulated.urls, simulated, EXCHANGES)
        try:
            return {index: cluster.replay(index) for index in range(len(EXCHANGES)) if index not in LEFT_OUT}
        finally:
            cluster.close()


@pytest.fixture(scope="module")
def handing_over_outcomes() -> list[list[str]]:
    """The exchanges about leases and returning nodes, made of the simulated cluster: how each differs."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as simulated:
        cluster = Cluster(simulated.urls, simulated, HANDING_OVER)
        try:
            return [cluster.replay(index) for index in range(len(HANDING_OVER))]
        finally:
            cluster.close()


@pytest.fixture(scope="module")
def directory_outcomes() -> list[list[str]]:
    """The exchanges about the feed of shard maps, made of the simulated cluster: how each differs."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as simulated:
        simulated.set_split_delay(None)
        cluster = Cluster(simulated.urls, simulated, DIRECTORY)
        # A new cluster has another database of the system, made after the one for authentication.
        cluster.create("/_replicator")
        try:
            return [cluster.replay(index) for index in range(len(DIRECTORY))]
        finally:
            cluster.close()


@pytest.fixture(scope="module")
def enemy_outcomes() -> list[list[str]]:
    """The exchanges about what an enemy can do, made of the simulated cluster: how each differs."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as simulated:
        cluster = Cluster(simulated.urls, simulated, ENEMY)
        try:
            return [cluster.replay(index) for index in range(len(ENEMY))]
        finally:
            cluster.close()


@pytest.mark.parametrize("index", range(len(ENEMY)), ids=lambda index: _name_of(ENEMY, index))
def test_what_an_enemy_does_is_answered_as_recorded(enemy_outcomes: list[list[str]], index: int) -> None:
    """Sign-up by anybody, revisions of choice, ids of odd bytes, single copies, readers, and locked accounts."""
    assert enemy_outcomes[index] == []


@pytest.mark.parametrize("index", range(len(DIRECTORY)), ids=lambda index: _name_of(DIRECTORY, index))
def test_the_feed_of_shard_maps_is_as_recorded(directory_outcomes: list[list[str]], index: int) -> None:
    """Databases made, deleted and split are listed by name, with one sequence for each time a map was written."""
    assert directory_outcomes[index] == []


@pytest.mark.parametrize("index", range(len(HANDING_OVER)), ids=lambda index: _name_of(HANDING_OVER, index))
def test_leases_and_returning_nodes_are_as_recorded(handing_over_outcomes: list[list[str]], index: int) -> None:
    """Leases by name, and what becomes of a security object that a minority, or a majority, of the nodes took."""
    assert handing_over_outcomes[index] == []


@pytest.mark.parametrize("index", [each for each in range(len(EXCHANGES)) if each not in LEFT_OUT], ids=_name)
def test_the_simulated_cluster_answers_as_recorded(simulated_outcomes: dict[int, list[str]], index: int) -> None:
    """The same request in the same state has the same status and shape of body."""
    assert simulated_outcomes[index] == []


def test_every_exchange_left_out_has_a_reason() -> None:
    """What is left out is in the recording, and somebody said why."""
    assert all(0 <= index < len(EXCHANGES) and reason for index, reason in LEFT_OUT.items())


# On a real cluster: reading it, local documents under a name of our own, and databases of our own. What is left out
# kills nodes, splits or deletes `_users`, depends on the configuration or on what else is there, needs the recorded
# users, or sends wrong passwords, which lock the account when the tests run often.
REAL = (
    *(*range(5), 6, *range(9, 15), 22, 23, 24, 25, 27, 31, 32, 34),
    *(*range(38, 43), *range(44, 77), *range(125, 143), 144),
)
# Of those, the ones about ranges of `_users`, which are as recorded only where it has two.
OF_TWO_RANGES = (9, 11, 13, 22, 23, 24, 25, 27, 31, 32, 34)
OWN_DATABASES = re.compile(r"/(userdb[-%][^/?]*)")


@pytest.fixture(scope="module")
def real_outcomes() -> Iterator[dict[int, list[str]]]:
    """The exchanges that can be made of a real cluster, and how each differs; what they made is removed again."""
    urls = os.environ.get("PERUSERD_TEST_CLUSTER", "").split(",")
    if len(urls) < 3:
        pytest.skip("PERUSERD_TEST_CLUSTER does not name three nodes")
    cluster = Cluster(urls[:3], None, EXCHANGES)
    created = [EXCHANGES[index] for index in REAL if EXCHANGES[index].method == "PUT"]
    own = sorted({match[1] for each in created if (match := OWN_DATABASES.match(each.path))})
    try:
        if any(cluster.exists(f"/{name}") for name in own):
            pytest.skip("the cluster holds a database of a name that the recording makes")
        skipped = () if cluster.has_two_ranges() else OF_TWO_RANGES
        yield {index: cluster.replay(index) for index in REAL if index not in skipped}
        for name in own:
            cluster.delete(f"/{name}")
        cluster.delete("/_users/_local/peruserd.probe")
    finally:
        cluster.close()


@pytest.mark.parametrize("index", REAL, ids=_name)
def test_a_real_cluster_still_answers_as_recorded(real_outcomes: dict[int, list[str]], index: int) -> None:
    """The recording is still true of the server at hand."""
    if index not in real_outcomes:
        pytest.skip("its `_users` has another number of ranges")
    assert real_outcomes[index] == []
