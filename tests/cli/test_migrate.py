"""`peruserd migrate` against a simulated cluster with couch_peruser on, or formerly on."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.decoding import load
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.simcluster.events.couch_peruser import database_of
from tests.cli.running import peruserd
from tests.couch.connecting import TalkingServer, answering
from tests.waiting import eventually

pytestmark = pytest.mark.processes

NODES = [f"node{number}@127.0.0.1" for number in (1, 2, 3)]


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster without users."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as running:
        yield running


def _set(cluster: SimClusterThread, node: int, section: str, key: str, value: str) -> None:
    url = f"{cluster.urls[0]}/_node/{NODES[node - 1]}/_config/{section}/{key}"
    requests.put(url, json=value, timeout=10).raise_for_status()


def _url(cluster: SimClusterThread, database: str) -> str:
    return f"{cluster.urls[0]}/{quote(database, safe='')}"


def _remove(cluster: SimClusterThread, user: str) -> None:
    url = f"{_url(cluster, '_users')}/{quote(user_document_id(user), safe='')}"
    rev = requests.get(url, timeout=10).json()["_rev"]
    requests.delete(url, params={"rev": rev}, timeout=10).raise_for_status()


def _secure(cluster: SimClusterThread, database: str, security: dict[str, Any]) -> None:
    requests.put(f"{_url(cluster, database)}/_security", json=security, timeout=10).raise_for_status()


def _wait_for(cluster: SimClusterThread, *users: str) -> None:
    def are_served() -> bool:
        answers = [
            requests.get(f"{_url(cluster, database_of('userdb-', user))}/_security", timeout=10) for user in users
        ]
        named = (each.json().get("members", {}).get("names", []) if each.ok else [] for each in answers)
        return all(user in names for user, names in zip(users, named, strict=True))

    eventually(are_served, "couch_peruser has served all")


def _items(document: dict[str, Any], kind: str) -> list[tuple[list[str], str]]:
    return [
        (item["users"], item["database"])
        for group in document["differs"]
        if group["kind"] == kind
        for item in group["items"]
    ]


@pytest.fixture
def moved(cluster: SimClusterThread) -> SimClusterThread:
    """Let couch_peruser serve users, and leave its typical remains behind."""
    users = ["alice", "bob", "carol", "dora", "tab\tone", "\x12\x03", "\x01#"]
    for user in users:
        cluster.add_user(user, "x")
    cluster.set_peruser(on=True)
    _wait_for(cluster, *users)
    cluster.set_peruser(on=False)
    _secure(cluster, database_name("userdb-", "bob"), {"admins": {"names": ["bob"]}, "members": {}})
    _remove(cluster, "carol")
    requests.delete(_url(cluster, database_name("userdb-", "dora")), timeout=10).raise_for_status()
    requests.put(_url(cluster, database_name("userdb-", "zoe")), timeout=10).raise_for_status()
    _set(cluster, 3, "couch_peruser", "q", "2")
    return cluster


@pytest.mark.usefixtures("moved")
def test_what_differs_is_listed_with_what_happens_to_it(config: str) -> None:
    """Public databases, deleted users with access, missing ones, free names, and names without padding."""
    ran = peruserd("migrate", "--check", "--json", "--config", config)
    assert ran.returncode == 1, ran.stderr
    document = json.loads(ran.stdout)
    assert _items(document, "public") == [(["bob"], database_name("userdb-", "bob"))]
    assert _items(document, "still_named") == [(["carol"], database_name("userdb-", "carol"))]
    assert _items(document, "no_user") == [(["zoe"], database_name("userdb-", "zoe"))]
    assert _items(document, "shared") == [(["\x01#", "\x12\x03"], "userdb-123")]
    assert sorted(_items(document, "unpadded")) == [
        (["\x01#"], "userdb-123"),
        (["\x12\x03"], "userdb-123"),
        (["tab\tone"], "userdb-74616296f6e65"),
    ]
    missing = [users for users, _ in _items(document, "missing")]
    assert missing == [["dora"]]
    assert document["setting_differences"] == [
        {"setting": "q", "values": {"1": NODES[:2], "2": NODES[2:]}},
    ]
    assert document["users"] == 7


def test_people_read_the_configuration_what_differs_and_the_order(moved: SimClusterThread, config: str) -> None:
    """Without --check the command exits 0 after its output; nothing is written."""
    writes = len(moved.writes())
    ran = peruserd("migrate", "--config", config)
    assert ran.returncode == 0, ran.stderr
    assert len(moved.writes()) == writes
    assert (
        "databases that everybody may read and write: 1\n  (peruserd closes them)\n  bob  userdb-626f62\n" in ran.stdout
    )
    assert r"  tab\x09one  userdb-74616296f6e65" in ran.stdout
    assert f"nodes differ in q: 1 at {NODES[0]}, {NODES[1]}; 2 at {NODES[2]}" in ran.stdout
    assert ran.stdout.index("couch_peruser is off") < ran.stdout.index("peruserd.toml") < ran.stdout.index("The order")


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("couch_peruser", "database_prefix", "User-", "the prefix 'User-' cannot be kept"),
        ("couch_peruser", "q", "5000", "q = 5000 cannot be kept"),
        ("couch_httpd_auth", "authentication_db", "people", "couch_peruser follows 'people'"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_setting_that_cannot_be_taken_is_said_whatever_else_fails(
    cluster: SimClusterThread,
    config: str,
    section: str,
    key: str,
    value: str,
    said: str,
    check: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The printed configuration does not do the same as couch_peruser then, so the command does not exit 0."""
    for node in (1, 2, 3):
        _set(cluster, node, section, key, value)
    ran = peruserd("migrate", *(["--check"] if check else []), "--config", config)
    assert said in ran.stdout
    assert ran.returncode == 1, ran.stderr


def test_the_configuration_is_printed_as_the_daemon_takes_it(cluster: SimClusterThread, config: str) -> None:
    """The configuration follows the settings of the node with couch_peruser on; passwords are left out."""
    _set(cluster, 2, "couch_peruser", "delete_dbs", "true")
    _set(cluster, 2, "couch_peruser", "database_prefix", "u/")
    _set(cluster, 2, "couch_peruser", "q", "3")
    _set(cluster, 2, "couch_peruser", "enable", "true")
    ran = peruserd("migrate", "--json", "--config", config)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    found = load(document["configuration"], {}, "printed").config
    assert (found.databases.prefix, found.databases.q) == ("u/", 3)
    assert (found.deletion.policy, found.deletion.grace_period) == (DeletionPolicy.DROP, 0)
    assert {each["setting"] for each in document["setting_differences"]} == {
        "enable",
        "delete_dbs",
        "database_prefix",
        "q",
    }
    text = peruserd("migrate", "--config", config).stdout
    begin = text.index("peruserd.toml\n") + len("peruserd.toml\n")
    assert tomllib.loads(text[begin : text.index("nodes differ")]) == tomllib.loads(document["configuration"])
    assert not [each for each in ('"pass"', ":pass@") if each in document["configuration"]]


def test_nothing_differs_is_0_and_no_output(cluster: SimClusterThread, config: str) -> None:
    """With --check a script goes by the exit code; standard error says what takes its time."""
    cluster.seed_users(3, "user", provisioned_prefix="userdb-")
    ran = peruserd("migrate", "--check", "--config", config)
    words = "peruserd: looking at all users, and at each copy of their databases\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", words)


def test_each_copy_of_each_database_is_read_once(cluster: SimClusterThread, config: str) -> None:
    """For 20,000 users these are 60,000 requests; nothing else is read per user, and nothing twice without need."""
    count = 40
    cluster.seed_users(count, "user", provisioned_prefix="userdb-")
    for node in (1, 2, 3):
        _set(cluster, node, "couch_peruser", "q", "2")
    cluster.clear_requests()
    ran = peruserd("migrate", "--check", "--json", "--config", config)
    asked: dict[str, int] = {}
    for (_, _, kind), number in cluster.requests().items():
        asked[kind] = asked.get(kind, 0) + number
    # All of them were made with other options than the settings have now.
    assert (ran.returncode, len(_items(json.loads(ran.stdout), "options"))) == (1, count)
    assert asked.pop("shard_security") == 3 * count
    assert sum(asked.values()) < 3 * count, asked
    assert "once more" not in ran.stderr


def test_a_node_that_does_not_say_is_named_and_is_1(cluster: SimClusterThread, config: str) -> None:
    """A silent node may differ from the others. If no node answers, there is nothing to follow."""
    cluster.fail(1, 403, path_regex="node2.*_config")
    some = peruserd("migrate", "--check", "--config", config)
    cluster.clear_faults()
    assert some.returncode == 1
    assert some.stdout.startswith(f"the couch_peruser settings of {NODES[1]} cannot be read: ")
    cluster.fail(1, 403, path_regex="_config")
    none = peruserd("migrate", "--json", "--config", config)
    cluster.clear_faults()
    assert (none.returncode, json.loads(none.stdout)["error"]) == (1, "settings_hidden")
    assert "no node shows its couch_peruser settings" in none.stderr


def test_a_server_without_couch_peruser_is_1(tmp_path: Path) -> None:
    """CouchDB 1.x has neither pages of nodes nor couch_peruser, and answers such paths with 400."""
    no_database = (400, {"error": "illegal_database_name", "reason": "…"})
    pages = dict.fromkeys([("GET", path) for path in ("/_node/_local", "/_membership")], no_database)
    with TalkingServer(answering({**pages, ("GET", "/"): (200, {"version": "1.7.2", "couchdb": "Welcome"})})) as server:
        path = tmp_path / "old.toml"
        path.write_text(f'[couchdb]\nurl = "{server.url}"\n[state]\ndirectory = "{tmp_path}/state"\n')
        ran = peruserd("migrate", "--config", str(path))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "the couch_peruser settings of _local cannot be read" in ran.stderr


@pytest.mark.parametrize("arguments", [[], ["--check"], ["--json"]])
def test_other_ends_are_as_those_of_other_commands(
    cluster: SimClusterThread, config: str, tmp_path: Path, arguments: list[str]
) -> None:
    """A server that is away is 75, a mistaken configuration is 78, a wrong call is 2."""
    run: Callable[..., Any] = peruserd
    assert run("migrate", *arguments, "everything", "--config", config).returncode == 2
    broken = tmp_path / "broken.toml"
    broken.write_text("[databases]\nq = 0\n")
    assert run("migrate", *arguments, "--config", str(broken)).returncode == 78
    cluster.stop_node(1)
    assert run("migrate", *arguments, "--config", config).returncode == 75
