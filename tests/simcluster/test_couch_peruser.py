"""The second writer: CouchDB's own couch_peruser, switched on in the simulated cluster."""

import asyncio
import time
from zlib import crc32

import pytest

from peruserd.core.ownership.hashing import document_key
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.simcluster.events import seed
from peruserd.simcluster.events.couch_peruser import Peruser, _key, database_of
from peruserd.simcluster.model import documents
from peruserd.simcluster.model.cluster_model import ClusterModel
from tests.simcluster.conftest import Ask
from tests.waiting import eventually

DEFAULT = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
ALICE = "userdb-616c696365"
WHOLE = "00000000-ffffffff"


def names(cluster: SimClusterThread, database: str) -> list[list[str]]:
    """Return whom each copy of a database lets in."""
    copies = cluster.snapshot_security(database).values()
    return [security.get("members", {}).get("names", []) for each in copies for security in each.values()]


def let_work(cluster: SimClusterThread) -> None:
    """Let the cluster's loop turn often enough for whoever waits there to act on a change, in all its steps."""
    for _ in range(50):
        cluster.databases()


def test_every_user_gets_a_database_of_one_s_own(cluster: SimClusterThread) -> None:
    """Earlier users are served, and later ones too. Other keys and roles are kept."""
    cluster.seed_users(5)
    cluster.set_peruser(on=True)
    cluster.add_user("alice", "x")
    expected = {ALICE} | {database_of("userdb-", f"user{number:06d}") for number in range(5)}
    eventually(lambda: set(cluster.databases()) - {"_users"} == expected)
    eventually(lambda: names(cluster, ALICE) == [["alice"]] * 3)
    security = cluster.snapshot_security(ALICE)["node1@127.0.0.1"][WHOLE]
    assert security == {part: {"roles": ["_admin"], "names": ["alice"]} for part in ("members", "admins")}


def test_a_user_who_is_deleted_loses_access_and_nothing_else(ask: Ask, cluster: SimClusterThread) -> None:
    """The name is taken out, partners and unknown keys stay, the database stays."""
    cluster.set_peruser(on=True)
    cluster.add_user("alice", "x")
    eventually(lambda: ALICE in cluster.databases() and names(cluster, ALICE) == [["alice"]] * 3)
    shared = {"admins": {"names": ["alice", "bob"]}, "members": {"names": ["bob", "alice"]}, "other": 1}
    ask("PUT", f"/{ALICE}/_security", shared)
    rev = ask("GET", "/_users/org.couchdb.user:alice").json()["_rev"]
    ask("DELETE", f"/_users/org.couchdb.user:alice?rev={rev}")
    left = {"admins": {"names": ["bob"]}, "members": {"names": ["bob"]}, "other": 1}
    eventually(lambda: ask("GET", f"/{ALICE}/_security").json() == left)


def test_a_database_can_go_with_its_user(ask: Ask, cluster: SimClusterThread) -> None:
    """With `delete_dbs`."""
    cluster.set_peruser(on=True, delete_dbs=True)
    cluster.add_user("alice", "x")
    eventually(lambda: ALICE in cluster.databases())
    rev = ask("GET", "/_users/org.couchdb.user:alice").json()["_rev"]
    ask("DELETE", f"/_users/org.couchdb.user:alice?rev={rev}")
    eventually(lambda: ALICE not in cluster.databases())


def test_it_is_switched_by_the_configuration(ask: Ask, cluster: SimClusterThread) -> None:
    """Each node for itself: with one node on, only users whom that node owns are served."""
    path = "/_node/node2@127.0.0.1/_config/couch_peruser/enable"
    assert ask("PUT", path, "true").json() == ""
    assert ask("GET", path).json() == "true"
    users = cluster.seed_users(12)
    mine = [name for name in users if document_key("_users", f"org.couchdb.user:{name}") % 3 == 1]
    eventually(lambda: len(cluster.databases()) == 1 + len(mine))
    assert 0 < len(mine) < len(users)
    assert ask("PUT", path, "false").json() == "true"
    later = cluster.seed_users(12, "later")
    assert any(document_key("_users", f"org.couchdb.user:{name}") % 3 == 1 for name in later)
    let_work(cluster)
    assert len(cluster.databases()) == 1 + len(mine)


def test_a_deleted_user_without_a_database_stops_its_range(ask: Ask, cluster: SimClusterThread) -> None:
    """It dies, starts again, dies again; whoever comes behind that user in the feed waits for good."""
    for number in range(8):
        cluster.add_user(f"gone{number}", "x")
        rev = ask("GET", f"/_users/org.couchdb.user:gone{number}").json()["_rev"]
        ask("DELETE", f"/_users/org.couchdb.user:gone{number}?rev={rev}")
    cluster.set_peruser(on=True)
    cluster.seed_users(20)
    time.sleep(0.3)
    assert len(cluster.databases()) < 21


def test_copies_that_disagree_stop_it(cluster: SimClusterThread) -> None:
    """It changes none of them."""
    cluster.set_peruser(on=True)
    cluster.add_user("alice", "x")
    eventually(lambda: ALICE in cluster.databases() and names(cluster, ALICE) == [["alice"]] * 3)
    cluster.set_copy_security(2, ALICE)
    cluster.set_peruser(on=True)
    let_work(cluster)
    assert names(cluster, ALICE) == [["alice"], [], ["alice"]]


def test_what_others_write_between_its_steps_is_lost() -> None:
    """It writes what it has read, with one name more, whatever was written since."""

    async def scenario() -> None:
        model = ClusterModel(ClusterOptions(), time.time)
        seed.make_auth_database(model)
        seed.add_user(model, model.nodes[0], "alice", "x")
        model.create_database(model.nodes[0], ALICE, q=1, n=3)
        for node in model.nodes:
            node.config["couch_peruser"]["enable"] = "true"
        writer = Peruser(model)
        writer.refresh()
        written = 0
        while "alice" not in str(documents.read_security(model, model.nodes[0], ALICE)):
            written += 1
            documents.write_security(model, model.nodes[0], ALICE, {"written": written})
            await asyncio.sleep(0)
        assert 0 < documents.read_security(model, model.nodes[0], ALICE)["written"] < written
        await writer.stop()

    asyncio.run(scenario())


def test_time_can_pass_between_its_steps(cluster: SimClusterThread) -> None:
    """A database is there for a while before it is secured."""
    cluster.set_peruser(on=True, step_seconds=0.1)
    cluster.add_user("alice", "x")
    eventually(lambda: ALICE in cluster.databases() and names(cluster, ALICE) == [["alice"]] * 3)


def test_it_goes_on_after_a_node_is_back(cluster: SimClusterThread) -> None:
    """While a node is down the others serve its users; all copies agree afterwards."""
    cluster.set_peruser(on=True)
    cluster.stop_node(3)
    cluster.seed_users(6)
    eventually(lambda: len(cluster.databases()) == 7)
    cluster.start_node(3)
    cluster.replicate()
    databases = [each for each in cluster.databases() if each != "_users"]
    eventually(lambda: all(len(names(cluster, each)) == 3 and all(names(cluster, each)) for each in databases))


def test_it_stays_off_without_users(ask: Ask, cluster: SimClusterThread) -> None:
    """It writes that into its own configuration."""
    cluster.set_peruser(on=True)
    ask("DELETE", "/_users")
    sections = [f"/_node/node{number}@127.0.0.1/_config/couch_peruser" for number in (1, 2, 3)]
    eventually(lambda: {ask("GET", f"{each}/enable").json() for each in sections} == {"false"})
    ask("PUT", "/_users")
    cluster.add_user("alice", "x")
    # A change of its section makes it look at its configuration again.
    for each in sections:
        ask("PUT", f"{each}/q", "1")
    let_work(cluster)
    assert cluster.databases() == ["_users"]


def test_a_user_of_odd_bytes_gets_a_database_of_these_bytes(ask: Ask, cluster: SimClusterThread) -> None:
    """Its security object shows a name that lets in only whoever has these bytes."""
    cluster.open_users()
    cluster.set_peruser(on=True)
    body = {"name": "alice", "type": "user", "roles": [], "password": "x"}
    ask("PUT", "/_users/org.couchdb.user:%E0%81%A1lice", body, nobody=True)
    cluster.add_user("alice", "x")
    odd = "userdb-e081a16c696365"
    eventually(lambda: {odd, ALICE} <= set(cluster.databases()) and names(cluster, odd) == [["alice"]] * 3)
    assert ask("GET", f"/{odd}", auth=("alice", "x")).status_code == 403
    assert ask("GET", f"/{odd}", auth=(b"\xe0\x81\xa1lice", "x")).status_code == 200


@pytest.mark.parametrize(("name", "database"), [("a\x01b", "u-61162"), ("é", "u-c3a9"), ("", "u-")])
def test_a_byte_below_sixteen_is_one_digit(name: str, database: str) -> None:
    """So two different names can share a database."""
    assert database_of("u-", name) == database


def test_the_owner_of_odd_bytes_is_computed_from_them() -> None:
    """As from any others."""
    assert _key("org.couchdb.user:alice") == document_key("_users", "org.couchdb.user:alice")
    raw = b"org.couchdb.user:\xe0\x81\xa1lice"
    term = b"\x83h\x02m\x00\x00\x00\x06_usersm" + len(raw).to_bytes(4, "big") + raw
    assert _key(raw.decode(errors="surrogateescape")) == crc32(term)
