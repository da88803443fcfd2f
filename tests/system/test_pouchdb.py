"""The daemon against PouchDB Server, an independent server without shards."""

import shutil
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.names import database_name
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.core.processes.messages import Credentials
from peruserd.core.users.security import first
from peruserd.couch.client import Client
from peruserd.couch.probe import open_probe
from peruserd.couch.session import Session
from peruserd.couch.single_journal import prepare_journal
from peruserd.couch.tokens import Tokens, basic_token
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.pouchdb import PROGRAM, PouchDBServer
from tests.system.server import PREFIX, Server
from tests.waiting import eventually, eventually_each

ADMIN = ("adm", "pass")
BEFORE = ("alice", "bob", "a/b", "José", "with space", "\u0001", "😀")
LATER = ("carol", "dave", "Carol", "c+d", "%2F")
CREATED = "peruserd_databases_created_total"


@pytest.fixture(scope="module")
def start_pouchdb(
    need_tool: Callable[[str], str], unavailable: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PouchDBServer]:
    """Make a PouchDB Server that is started by `with`."""
    node = need_tool("node")
    if not PROGRAM.exists():
        unavailable("PouchDB Server is not installed: `make pouchdb` does that, with npm")
    return lambda admin: PouchDBServer(node, tmp_path_factory.mktemp("pouchdb"), admin)


@pytest.fixture(scope="module")
def shared_pouchdb(start_pouchdb: Callable[..., PouchDBServer]) -> Iterator[PouchDBServer]:
    """A PouchDB Server with an admin for all tests: to start one is a third of the time of a test."""
    with start_pouchdb(ADMIN) as running:
        yield running


@pytest.fixture
def pouchdb(shared_pouchdb: PouchDBServer) -> PouchDBServer:
    """That server without a database of the tests before."""
    shared_pouchdb.empty()
    return shared_pouchdb


@pytest.fixture
def server(pouchdb: PouchDBServer) -> Server:
    """That server, asked as its admin."""
    return pouchdb.server


@pytest.fixture
def daemon(pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]) -> Daemon:
    """An instance for it that is not started yet."""
    return make_daemon(url=pouchdb.url, username=ADMIN[0], password=ADMIN[1])


def names(prefix: str, count: int) -> list[str]:
    """Return names of users."""
    return [f"{prefix}-{number}" for number in range(count)]


def wait_until_served(server: Server, users: list[str] | tuple[str, ...]) -> None:
    """Wait until each of the users is served."""
    eventually_each(users, server.is_served, "the user is served")


@pytest.mark.anew
def test_one_listener_follows_the_databases_own_feed(daemon: Daemon) -> None:
    """A server that has no /_node/_local is followed by a single listener, on the feed of the whole database."""
    daemon.start().wait_until_ready()
    attached = daemon.line("attached")
    assert attached is not None
    assert attached["feed"] == "database"
    assert len(daemon.listeners()) == 1
    assert daemon.metrics().total("peruserd_listener_state", state="running") == 1
    assert daemon.get("/healthz").status_code == 200


def test_users_of_before_and_after_the_start_are_served(daemon: Daemon, server: Server) -> None:
    """Each user gets a database with the user as admin and member: users at the start and those who come later."""
    server.sign_up(BEFORE)
    daemon.start().wait_until_ready()
    assert server.unserved(BEFORE) == []
    server.sign_up(LATER)
    wait_until_served(server, LATER)
    everybody = {*BEFORE, *LATER}
    assert server.databases() == {database_name(PREFIX, name) for name in everybody}
    for name in everybody:
        assert server.security(name) == first(name)
    daemon.wait_for_total("peruserd_users_provisioned_total", len(everybody))
    assert daemon.metrics().total(CREATED) == len(everybody)


def test_a_database_is_private(daemon: Daemon, server: Server) -> None:
    """The server lets only the owner in, no other user and no anonymous client, although it makes databases public."""
    server.sign_up(["alice", "bob"])
    daemon.start().wait_until_ready()
    assert server.status_for(("alice", "alice"), "alice") == 200
    assert server.status_for(("bob", "bob"), "alice") in (401, 403)
    assert server.status_for(None, "alice") == 401


def test_a_server_without_admins_is_served_without_credentials(
    start_pouchdb: Callable[..., PouchDBServer], make_daemon: Callable[..., Daemon]
) -> None:
    """Where everybody is an admin, no account is needed."""
    with start_pouchdb(None) as open_to_all:
        open_to_all.server.sign_up(BEFORE)
        make_daemon(url=open_to_all.url).start().wait_until_ready()
        assert open_to_all.server.unserved(BEFORE) == []


def test_a_wrong_password_is_waited_for(pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]) -> None:
    """The instance says what is wrong, and goes on when its file has the right one."""
    daemon = make_daemon(url=pouchdb.url, username=ADMIN[0], password="hunter2").start()
    eventually(lambda: "refuses the password" in daemon.get("/readyz").text, "the refusal is said")
    daemon.password_file.write_text(f"{ADMIN[1]}\n")
    daemon.wait_until_ready()
    assert "hunter2" not in daemon.log_file.read_text()


def test_deletion_revokes_and_leaves_nothing_public(daemon: Daemon, server: Server) -> None:
    """A deleted user loses access; their database stays, and its members are never empty."""
    server.sign_up(["alice", "bob"])
    daemon.start().wait_until_ready()
    server.remove(["alice"])
    eventually(lambda: "alice" not in str(server.security("alice")), "alice is revoked")
    security = server.security("alice")
    assert security["members"]["roles"] == ["_admin"]
    assert server.status_for(("bob", "bob"), "alice") in (401, 403)
    assert server.status_for(None, "alice") == 401
    daemon.wait_for_total("peruserd_users_revoked_total", 1)
    assert server.is_served("bob")


def test_a_user_who_comes_back_is_served_again(daemon: Daemon, server: Server) -> None:
    """Deleting and making the user document again ends with access to the same database."""
    server.sign_up(["alice"])
    daemon.start().wait_until_ready()
    server.remove(["alice"])
    eventually(lambda: "alice" not in str(server.security("alice")), "alice is revoked")
    server.sign_up(["alice"])
    wait_until_served(server, ["alice"])
    assert server.status_for(("alice", "alice"), "alice") == 200


def test_what_else_a_security_object_holds_is_kept(daemon: Daemon, server: Server) -> None:
    """Names, roles and keys that others put there survive granting and revoking."""
    database = database_name(PREFIX, "alice")
    kept = {"admins": {"names": ["boss"], "roles": ["staff"]}, "members": {"roles": ["readers"]}, "note": {"x": [1]}}
    server.put(database)
    server.put(database, "_security", body=kept)
    server.sign_up(["alice"])
    daemon.start().wait_until_ready()
    assert server.security("alice") == {
        "admins": {"names": ["boss", "alice"], "roles": ["staff"]},
        "members": {"names": ["alice"], "roles": ["readers"]},
        "note": {"x": [1]},
    }
    server.remove(["alice"])
    eventually(lambda: "alice" not in str(server.security("alice")), "alice is revoked")
    assert server.security("alice") == {
        "admins": {"names": ["boss"], "roles": ["staff"]},
        "members": {"names": [], "roles": ["readers"]},
        "note": {"x": [1]},
    }


def test_a_restart_goes_on_at_the_checkpoint(daemon: Daemon, pouchdb: PouchDBServer) -> None:
    """After a clean stop no user is looked at again; users who came meanwhile are served."""
    users = names("user", 20)
    pouchdb.server.sign_up(users)
    daemon.start().wait_until_scanned()
    daemon.wait_for_total("peruserd_checkpoint_sequence", len(users) + 1)
    assert daemon.stop() == 0
    asked_before = len(pouchdb.requests())
    daemon.start().wait_until_ready()
    metrics = daemon.metrics()
    for idle in (CREATED, "peruserd_changes_seen_total", "peruserd_security_writes_total", "peruserd_scans_total"):
        assert metrics.total(idle) == 0, idle
    assert [each for each in pouchdb.requests()[asked_before:] if PREFIX in each] == []
    assert daemon.stop() == 0
    pouchdb.server.sign_up(["meanwhile"])
    daemon.start().wait_until_ready()
    assert pouchdb.server.is_served("meanwhile")
    daemon.wait_for_total("peruserd_users_provisioned_total", 1)
    metrics = daemon.metrics()
    assert (metrics.total(CREATED), metrics.total("peruserd_changes_seen_total")) == (1, 1)


def test_the_question_whether_the_server_serves_can_be_asked_again(pouchdb: PouchDBServer) -> None:
    """The probe's write succeeds each time, so a listener leaves the hold."""
    session = Session(CouchDBConfig(url=pouchdb.url), Tokens(basic_token(Credentials(ADMIN[0], Secret(ADMIN[1])), 1)))
    client = Client(session)
    assert prepare_journal(client, "peruserd")
    probe = open_probe(client, "peruserd", Copy("_users", WHOLE_SPACE, "here", feed=Feed.DATABASE))
    assert [probe.ask() for _ in range(3)] == [None, None, None]
    session.close()


def test_a_killed_listener_comes_back(daemon: Daemon, server: Server) -> None:
    """SIGKILL in the middle of the work loses no user, and no counter falls."""
    early, late = names("early", 30), names("late", 30)
    daemon.start().wait_until_ready()
    server.sign_up(early)
    daemon.wait_for_total(CREATED, 1)
    (listener,) = daemon.listeners()
    before = daemon.metrics().total(CREATED)
    daemon.signal_listener(listener, signal.SIGKILL)
    server.sign_up(late)
    wait_until_served(server, early + late)
    daemon.wait_for_total("peruserd_listener_restarts_total", 1)
    daemon.wait_until_ready()
    metrics = daemon.metrics()
    assert before <= metrics.total(CREATED) <= len(early + late)
    assert metrics.total("peruserd_listener_ends_total", reason="crashed") == 1
    assert list(daemon.listeners()) != [listener]
    assert daemon.exit_code is None


def test_a_killed_supervisor_leaves_no_process(daemon: Daemon, server: Server) -> None:
    """The listener ends by itself, so the next supervisor finds none running; no user is lost."""
    users = names("user", 40)
    daemon.start().wait_until_ready()
    server.sign_up(users[:20])
    daemon.wait_for_total(CREATED, 1)
    daemon.kill()
    eventually(lambda: daemon.processes() == [], "no process of the daemon is left")
    server.sign_up(users[20:])
    daemon.start().wait_until_ready()
    assert server.unserved(users) == []


def test_sigterm_ends_all_in_the_middle_of_work(daemon: Daemon, server: Server) -> None:
    """Exit code 0, no process left, and the next start goes on where this one stopped."""
    users = names("user", 40)
    server.sign_up(users)
    daemon.start()
    daemon.wait_for_total(CREATED, 1)
    assert daemon.stop() == 0
    eventually(lambda: daemon.processes() == [], "no process of the daemon is left")
    assert daemon.line("stopped") is not None
    daemon.start().wait_until_ready()
    assert server.unserved(users) == []
    assert server.databases() == {database_name(PREFIX, name) for name in users}


def test_a_lost_state_directory_costs_a_scan(daemon: Daemon, server: Server) -> None:
    """All users are looked at again, and nothing is made or written."""
    users = names("user", 10)
    server.sign_up(users)
    daemon.start().wait_until_ready()
    assert daemon.stop() == 0
    before = {name: server.security(name) for name in users}
    shutil.rmtree(daemon.state)
    daemon.start().wait_until_ready()
    daemon.wait_for_total("peruserd_users_provisioned_total", len(users))
    daemon.wait_for_total("peruserd_scans_total", 1)
    metrics = daemon.metrics()
    assert (metrics.total(CREATED), metrics.total("peruserd_security_writes_total")) == (0, 0)
    assert {name: server.security(name) for name in users} == before


def test_an_authentication_database_that_comes_later_is_followed(
    pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]
) -> None:
    """Until the database of users exists the daemon waits, healthy and not ready. It is another one than `_users`."""
    server = Server(pouchdb.url, ADMIN, auth_db="accounts")
    daemon = make_daemon(url=pouchdb.url, username="adm", password="pass", config={"couchdb": {"auth_db": "accounts"}})
    daemon.start()
    daemon.wait_for_total("peruserd_failures_total", 1, kind="not_found")
    assert not daemon.is_ready
    assert daemon.get("/healthz").status_code == 200
    server.put("accounts")
    server.sign_up(BEFORE)
    wait_until_served(server, BEFORE)
    daemon.wait_until_ready()
    assert daemon.exit_code is None


def test_an_idle_feed_is_no_failure(pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]) -> None:
    """This server never ends a long poll by itself: the listener ends it, finds the same copy, and stays ready."""
    server = pouchdb.server
    hasty = {"couchdb": {"read_timeout": 1.0, "long_poll_timeout": 1.0}}
    daemon = make_daemon(url=pouchdb.url, username=ADMIN[0], password=ADMIN[1], config=hasty)
    server.sign_up(["alice"])
    daemon.start().wait_until_ready()
    pages = daemon.metrics().total("peruserd_feed_requests_total")
    daemon.wait_for_total("peruserd_feed_requests_total", pages + 1)
    assert daemon.is_ready
    metrics = daemon.metrics()
    assert metrics.total("peruserd_failures_total") == 0
    assert metrics.total("peruserd_listener_ends_total") == 0
    server.sign_up(["bob"])
    wait_until_served(server, ["bob"])


def test_an_authentication_database_made_again_is_noticed(
    pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]
) -> None:
    """All knowledge of the old database is void, and all users of the new one are served.

    This server makes `_users` again at once, and never answers a long poll on the old one.
    """
    server = pouchdb.server
    hasty = {"couchdb": {"read_timeout": 1.0, "long_poll_timeout": 1.0}}
    daemon = make_daemon(url=pouchdb.url, username=ADMIN[0], password=ADMIN[1], config=hasty)
    server.sign_up(names("old", 5))
    daemon.start().wait_until_ready()
    server.ask("DELETE", "_users").raise_for_status()
    eventually(lambda: server.ask("GET", "_users").ok, "the server has made _users again")
    server.sign_up(names("new", 3))
    wait_until_served(server, names("new", 3))
    daemon.wait_until_ready()
    assert daemon.exit_code is None


def test_a_name_that_is_too_long_holds_nobody_up(daemon: Daemon, server: Server) -> None:
    """It is counted and kept nowhere; a name just short enough is served, and so are all others."""
    too_long, longest = "x" * 116, "é" * 57 + "x"
    server.sign_up(["alice", too_long, longest, "bob"])
    daemon.start()
    wait_until_served(server, ["alice", longest, "bob"])
    daemon.wait_for_total("peruserd_failures_total", 1, kind="unservable_name")
    assert daemon.metrics().total("peruserd_quarantined_users") == 0
    daemon.wait_until_ready()
    assert server.databases() == {database_name(PREFIX, name) for name in ("alice", longest, "bob")}


def test_deleted_users_databases_are_dropped_without_shards_too(
    server: Server, pouchdb: PouchDBServer, make_daemon: Callable[..., Daemon]
) -> None:
    """The journal is made there by the one instance there is, and a deletion waits, is listed and is carried out."""
    config = {"deletion": {"policy": "drop"}}
    instance = make_daemon(url=pouchdb.url, username=ADMIN[0], password=ADMIN[1], config=config).start()
    server.sign_up(names("gone", 2))
    wait_until_served(server, names("gone", 2))
    server.remove(names("gone", 2))
    eventually(lambda: instance.gauge("peruserd_deletions_waiting") == 2, "both deletions wait")
    kept, gone = names("gone", 2)
    path = str(instance.directory / "peruserd.toml")
    assert peruserd("deletions", "cancel", kept, "--config", path).returncode == 0
    assert peruserd("deletions", "drop-now", gone, "--config", path).returncode == 0
    eventually(lambda: instance.metrics().total("peruserd_databases_dropped_total") == 1, "one is dropped")
    eventually(lambda: instance.gauge("peruserd_deletions_waiting") == 0, "nothing waits")
    assert server.databases() == {database_name(PREFIX, kept)}
