"""`owner` and `plan` on a simulated cluster whose leases the tests write."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from peruserd.core.cluster.leases import Lease, Role
from peruserd.couch.client import Client
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.couch.connecting import connect, make_lease_database

pytestmark = pytest.mark.processes

NODES = [f"node{number}@127.0.0.1" for number in (1, 2, 3)]

# Long enough for a lease that is renewed on a busy machine, and short enough to wait for the end of a dead one.
LEASES = "[cluster]\npoll_interval = 0.5\nlease_interval = 0.2\nlease_ttl = 4.0\n"


class RenewedLeases:
    """Instances whose leases grow, beside some nodes, until the end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, *nodes: str) -> None:
        """Let an instance live beside each of these nodes; each has written its lease when this returns."""
        for node in nodes:
            begun = threading.Event()
            thread = threading.Thread(target=self._renew, args=(node, begun))
            thread.start()
            self._threads.append(thread)
            begun.wait()

    def _renew(self, node: str, begun: threading.Event) -> None:
        counter = 1
        while not self._ended.is_set():
            self._client.put_lease("peruserd", Lease(node, f"beside-{node}", counter, version="9.9", address="here:1"))
            counter += 1
            begun.set()
            self._ended.wait(0.02)

    def end(self) -> None:
        """Let all of them fall silent."""
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster of three nodes with two copies of each of two ranges."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=2)) as running:
        make_lease_database(connect(running.urls[0]))
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of node 1."""
    return connect(cluster.urls[0], connections=4)


@pytest.fixture
def alive(client: Client) -> Iterator[Callable[..., None]]:
    """Let instances live beside nodes: `alive(*nodes)`."""
    renewed = RenewedLeases(client)
    yield renewed.begin
    renewed.end()


@pytest.fixture
def config(cluster: SimClusterThread, tmp_path: Path) -> str:
    """Write a configuration for the cluster's first node."""
    path = tmp_path / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n{LEASES}')
    return str(path)


def _shards(cluster: SimClusterThread) -> dict[str, list[str]]:
    shards: dict[str, list[str]] = requests.get(f"{cluster.urls[0]}/_users/_shards", timeout=10).json()["shards"]
    return shards


def _lone_node(cluster: SimClusterThread) -> tuple[str, str]:
    """Return a range and the one node that has no copy of it."""
    covered, hosts = next(iter(_shards(cluster).items()))
    (node,) = set(NODES) - set(hosts)
    return covered, node


def test_owner_agrees_with_the_cluster(config: str, cluster: SimClusterThread, alive: Callable[..., None]) -> None:
    """With an instance beside every node the owner is the first of the document's hosts, and all is explained."""
    alive(*NODES)
    answered = peruserd("owner", "alice", "José", "--config", config)
    assert answered.returncode == 0, answered.stderr
    blocks = answered.stdout.split("\n\n")
    for user, block in zip(["alice", "José"], blocks, strict=True):
        shard = requests.get(f"{cluster.urls[0]}/_users/_shards/org.couchdb.user:{user}", timeout=10).json()
        lines = block.strip().splitlines()
        owner = lines[0].removeprefix(f"{user}: ")
        assert owner in shard["nodes"]
        assert f"in the range {shard['range']}" in block
        assert f"begin with {owner}" in block
        assert f"{owner}: the first with a live instance" in block
        assert f"document  org.couchdb.user:{user}" in block
        assert f"database  userdb-{user.encode().hex()}" in block
        hosts = [
            line.split(": ")[0].split()[-1] for line in lines if "alive; later" in line or "the first with" in line
        ]
        assert sorted(hosts) == sorted(shard["nodes"])
    assert "watching 3 leases for a sign of life" in answered.stderr


def test_an_instance_without_a_sign_of_life_owns_nothing(
    config: str, client: Client, alive: Callable[..., None]
) -> None:
    """An existing lease that does not grow is watched until the time to live is over, and then ignored."""
    for node in NODES[1:]:
        client.put_lease("peruserd", Lease(node, f"dead-{node}", 7))
    alive(NODES[0])
    answered = peruserd("owner", "alice", "--json", "--config", config)
    assert answered.returncode == 0, answered.stderr
    (explained,) = json.loads(answered.stdout)
    assert explained["owner"] == NODES[0]
    dead = [each for each in explained["hosts"] if each["node"] != NODES[0]]
    assert {each["why"] for each in dead} == {"its instance: silent for longer than the time to live"}
    assert not any(each["alive"] for each in dead)
    assert "no sign of life from node2@127.0.0.1, node3@127.0.0.1 yet" in answered.stderr


def test_without_waiting_every_lease_is_taken_at_its_word(config: str, client: Client) -> None:
    """With `--no-wait` every existing lease is shown, live or not."""
    for node in NODES:
        client.put_lease("peruserd", Lease(node, node, 7))
    answered = peruserd("owner", "alice", "--no-wait", "--config", config)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert answered.stdout.startswith("alice: node")


@pytest.mark.parametrize("command", [["owner", "alice"], ["plan"]])
def test_where_no_instance_is_there_is_nobody_and_nothing_to_wait_for(config: str, command: list[str]) -> None:
    """CouchDB nodes are not instances; without an instance the exit code is 1."""
    answered = peruserd(*command, "--config", config)
    assert (answered.returncode, answered.stderr) == (1, "")
    assert "alice: nobody" in answered.stdout or "0 instances alive" in answered.stdout


def test_why_a_host_has_no_instance_is_said(config: str, cluster: SimClusterThread, client: Client) -> None:
    """The instance was stopped in order, its CouchDB node is away, or it never had an instance."""
    client.put_lease("peruserd", Lease(NODES[0], "a", 7))
    client.put_lease("peruserd", Lease(NODES[1], "b", 8, released=True))
    cluster.stop_node(3)
    whys: dict[str, str] = {}
    for user in map(str, range(20)):
        (explained,) = json.loads(peruserd("owner", user, "--json", "--no-wait", "--config", config).stdout)
        whys |= {each["node"]: each["why"] for each in explained["hosts"]}
        if len(whys) == 3:
            break
    assert whys[NODES[1]] == "its instance: stopped in order"
    assert whys[NODES[2]] == "its CouchDB node is not connected"


def test_an_adopted_users_owner_is_explained(config: str, cluster: SimClusterThread, client: Client) -> None:
    """If no host has an instance, the adopters are named."""
    covered, node = _lone_node(cluster)
    client.put_lease("peruserd", Lease(node, "a", 7))
    users = [f"user-{number}" for number in range(20)]
    answered = peruserd("owner", *users, "--json", "--no-wait", "--config", config)
    assert answered.returncode == 0
    explained = json.loads(answered.stdout)
    assert {each["owner"] for each in explained} == {node}
    adopted = [each for each in explained if each["ranges"] == [covered]]
    assert adopted
    assert all(each["adopters"] == [node] for each in adopted)
    words = peruserd("owner", adopted[0]["user"], "--no-wait", "--config", config).stdout
    assert f"adopters  {node}" in words


def test_plan_shows_who_is_alive_and_who_listens_to_what(
    config: str, cluster: SimClusterThread, alive: Callable[..., None]
) -> None:
    """Every instance with its lease, every range with its hosts and listeners."""
    alive(*NODES)
    planned = peruserd("plan", "--config", config)
    assert planned.returncode == 0, planned.stderr
    head, instances, ranges = planned.stdout.split("\n\n")
    assert head == "authentication database _users: 2 ranges, 3 nodes connected, 3 instances alive"
    rows = [line.split() for line in instances.splitlines()]
    assert rows[0] == ["instance", "standing", "role", "lease", "version", "page"]
    assert [[row[0], row[1], row[2], *row[4:]] for row in rows[1:]] == [
        [node, "alive", "active", "9.9", "here:1"] for node in NODES
    ]
    for covered, hosts in _shards(cluster).items():
        named = ", ".join(sorted(hosts))
        (line,) = [line for line in ranges.splitlines() if line.startswith(covered)]
        assert line.split("  ")[1:] == [named, named]


def test_plan_in_json_has_all_of_it(
    config: str, cluster: SimClusterThread, client: Client, alive: Callable[..., None]
) -> None:
    """For programs: the ranges with hosts, candidates and listeners, and each instance with its standing and lease."""
    alive(NODES[0])
    client.put_lease("peruserd", Lease(NODES[1], "b", 8, released=True))
    planned = peruserd("plan", "--json", "--config", config)
    assert planned.returncode == 0, planned.stderr
    document: dict[str, Any] = json.loads(planned.stdout)
    assert document["plan"]["instances"] == [NODES[0]]
    assert {each["range"]: each["hosts"] for each in document["plan"]["ranges"]} == {
        covered: sorted(hosts) for covered, hosts in _shards(cluster).items()
    }
    for each in document["plan"]["ranges"]:
        assert each["candidates"] == [NODES[0]]
        (read,) = each["listeners"].values()
        assert read == NODES[0] or NODES[0] not in each["hosts"]
    standings = {each["lease"]["node"]: each["standing"] for each in document["instances"]}
    assert standings == {NODES[0]: "alive", NODES[1]: "stopped in order"}


def test_plan_shows_adopted_ranges_and_roles(config: str, cluster: SimClusterThread, client: Client) -> None:
    """The output marks instances that read another node's copy or stand by, and nodes in maintenance mode."""
    covered, node = _lone_node(cluster)
    client.put_lease("peruserd", Lease(node, "a", 7, maintenance=True))
    client.put_lease("peruserd", Lease(node, "b", 3, role=Role.STANDBY))
    planned = peruserd("plan", "--no-wait", "--config", config)
    assert planned.returncode == 0
    (line,) = [line for line in planned.stdout.splitlines() if line.startswith(covered)]
    assert f"{node} (reads {min(_shards(cluster)[covered])})" in line
    assert "active, node in maintenance mode" in planned.stdout
    assert "standby" in planned.stdout


def test_what_nobody_can_read_makes_plan_end_with_1(tmp_path: Path) -> None:
    """A range whose hosts are all away is named; its host is marked, and nobody listens to it."""
    with SimClusterThread(ClusterOptions(nodes=2, q=2, n=1)) as cluster:
        make_lease_database(connect(cluster.urls[0]))
        path = tmp_path / "peruserd.toml"
        path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n{LEASES}')
        (lost,) = [covered for covered, hosts in _shards(cluster).items() if hosts == [NODES[1]]]
        connect(cluster.urls[0]).put_lease("peruserd", Lease(NODES[0], "a", 7))
        cluster.stop_node(2)
        planned = peruserd("plan", "--no-wait", "--config", str(path))
    assert planned.returncode == 1
    (line,) = [line for line in planned.stdout.splitlines() if line.startswith(lost)]
    assert line.split("  ")[1:] == [f"{NODES[1]} (away)", "NOBODY"]
    assert f"cannot be read now: {lost}" in planned.stdout


NO_USERS = {"PERUSERD_COUCHDB_AUTH_DB": "elsewhere"}
DATABASE_FEED = {"PERUSERD_COUCHDB_FEED": "database"}


def test_without_the_authentication_database_nobody_owns_anything(config: str) -> None:
    """The command answers that nobody owns the user, with exit code 1."""
    answered = peruserd("owner", "bob", "--config", config, environment=NO_USERS)
    assert (answered.returncode, answered.stderr) == (1, "")
    assert "bob: nobody\n  because   the authentication database does not exist" in answered.stdout
    answered = peruserd("owner", "bob", "--json", "--config", config, environment=NO_USERS)
    assert (answered.returncode, answered.stderr) == (1, "")
    (explained,) = json.loads(answered.stdout)
    assert (explained["owner"], explained["why"]) == (None, "the authentication database does not exist")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_without_the_authentication_database_there_is_no_plan(config: str, options: list[str]) -> None:
    """That is an error with exit code 1; with `--json` the output is JSON all the same."""
    answered = peruserd("plan", *options, "--config", config, environment=NO_USERS)
    assert answered.returncode == 1
    assert answered.stderr == "peruserd: no plan: the authentication database does not exist\n"
    if options:
        document = json.loads(answered.stdout)
        assert (document["plan"], document["leases_readable"]) == (None, True)
    else:
        assert answered.stdout == ""


@pytest.mark.parametrize("command", [["plan"], ["owner", "bob"]])
def test_where_one_instance_serves_everybody_there_is_nobody_to_watch(config: str, command: list[str]) -> None:
    """By the database's own feed there are no shares, and no lease is asked for."""
    answered = peruserd(*command, "--config", config, environment=DATABASE_FEED)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert "without shards" in answered.stdout


def test_a_server_without_shards_has_a_plan_in_json_too(config: str) -> None:
    """It has the shape of every other plan: one range, which one instance listens to. No node is asked for its name."""
    answered = peruserd("plan", "--json", "--config", config, environment=DATABASE_FEED)
    assert (answered.returncode, answered.stderr) == (0, "")
    plan = json.loads(answered.stdout)["plan"]
    assert (plan["database"], plan["instances"], plan["unreadable"]) == ("_users", ["_local"], [])
    (only,) = plan["ranges"]
    assert (only["range"], only["listeners"]) == ("00000000-ffffffff", {"_local": "_local"})


def test_a_server_without_shards_has_owners_in_json_too(config: str) -> None:
    """They have the shape of every other owner, and the node of the one instance."""
    answered = peruserd("owner", "bob", "x" * 300, "--json", "--config", config, environment=DATABASE_FEED)
    assert (answered.returncode, answered.stderr) == (0, "")
    bob, nameless = json.loads(answered.stdout)
    assert (bob["owner"], bob["database"], nameless["database"]) == ("_local", "userdb-626f62", None)
    assert "without shards" in bob["why"]


@pytest.mark.parametrize("command", [["plan", "--no-wait"], ["owner", "bob", "--no-wait"], ["check"]])
def test_a_command_that_only_asks_changes_nothing(
    config: str, cluster: SimClusterThread, client: Client, command: list[str]
) -> None:
    """No request but the login writes, and the command leaves no lease."""
    for node in NODES:
        client.put_lease("peruserd", Lease(node, node, 7))
    before = client.leases("peruserd")
    cluster.clear_requests()
    answered = peruserd(*command, "--config", config)
    assert answered.returncode in (0, 1)
    asked = {(method, kind) for _, method, kind in cluster.requests() if method not in ("GET", "HEAD")}
    assert asked <= {("POST", "session")}
    assert client.leases("peruserd") == before


def test_check_follows_what_an_instance_beside_this_node_would(
    config: str, cluster: SimClusterThread, client: Client
) -> None:
    """With instances beside the others, only the own node's copies; the leases found are named as no more than that."""
    for node in NODES[1:]:
        client.put_lease("peruserd", Lease(node, node, 7))
    checked = peruserd("check", "--config", config)
    assert checked.returncode == 0, checked.stderr
    followed = [line.split()[2] for line in checked.stdout.splitlines() if line.startswith("would follow:")]
    assert sorted(followed) == sorted(covered for covered, hosts in _shards(cluster).items() if NODES[0] in hosts)
    assert "leases of others: node2@127.0.0.1, node3@127.0.0.1" in checked.stdout


def test_check_adopts_what_nobody_else_would_serve(config: str, cluster: SimClusterThread) -> None:
    """Without any other instance the daemon would follow a copy of every range."""
    checked = peruserd("check", "--config", config)
    followed = {line.split()[2] for line in checked.stdout.splitlines() if line.startswith("would follow:")}
    assert followed == set(_shards(cluster))
    assert "leases of others: none" in checked.stdout


@pytest.mark.parametrize("command", [["plan"], ["owner", "bob"]])
def test_by_the_database_feed_a_server_that_is_away_is_noticed(config: str, command: list[str]) -> None:
    """No node is asked, but an answer still means that the server accepts the account."""
    environment = {**DATABASE_FEED, "PERUSERD_COUCHDB_URL": "http://adm:pass@127.0.0.1:1"}
    assert peruserd(*command, "--config", config, environment=environment).returncode == 75
