"""`peruserd wait` against a simulated cluster."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from peruserd.core.users.readiness import Readiness, UserState
from peruserd.daemon.http import Page
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.users_page import Access, UsersPage
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with a few users who are served, and a few who are not."""
    with SimClusterThread(ClusterOptions(nodes=3, q=2, n=3)) as running:
        running.seed_users(2, "served", provisioned_prefix="userdb-")
        running.seed_users(2, "waiting")
        yield running


@contextmanager
def _daemon_saying(said: Readiness) -> Iterator[dict[str, str]]:
    """Serve the page of a daemon that answers this for everybody; give the environment that points to it."""
    page = Page(
        CollectorRegistry(),
        healthy=lambda: (True, ""),
        ready=lambda: (True, ""),
        users=UsersPage(lambda _user, _number: said, Access(is_open=True, loopback_only=True)),
    )
    server = HTTPServer(page, "127.0.0.1", 0)
    server.start()
    yield {"PERUSERD_HTTP_LISTEN": f"127.0.0.1:{server.port}"}
    server.stop()


def test_users_who_are_served_are_0(config: str) -> None:
    """Each user is printed once, in the order of the command line; no daemon is needed."""
    ran = peruserd("wait", "served000001", "served000000", "served000001", "--config", config)
    assert (ran.returncode, ran.stdout) == (0, "served000001: served\nserved000000: served\n")
    assert ran.stderr == ""


def test_the_time_is_over_is_1_and_says_who_is_not_served(config: str) -> None:
    """With no time at all there is one look."""
    ran = peruserd("wait", "served000000", "waiting000000", "--timeout", "0", "--config", config)
    assert ran.returncode == 1
    assert ran.stdout == "served000000: served\nwaiting000000: not served yet\n"


def test_users_who_cannot_come_are_1_at_once(config: str) -> None:
    """The command waits neither for a name without a document nor for one that allows no database."""
    ran = peruserd("wait", "nobody", "x" * 116, "served000000", "--json", "--timeout", "3600", "--config", config)
    assert ran.returncode == 1
    document = json.loads(ran.stdout)
    assert document["done"] is False
    assert [each["state"] for each in document["users"]] == ["unknown", "unservable", "served"]


def test_a_user_who_is_served_meanwhile_ends_the_wait(config: str, cluster: SimClusterThread) -> None:
    """The command looks again and again."""
    cluster.clear_requests()

    def serve() -> None:
        eventually(lambda: sum(cluster.requests().values()) > 10)
        cluster.set_peruser(on=True)

    thread = threading.Thread(target=serve)
    thread.start()
    ran = peruserd("wait", "waiting000000", "waiting000001", "--timeout", "60", "--json", "--config", config)
    thread.join()
    assert ran.returncode == 0
    assert json.loads(ran.stdout) == {
        "done": True,
        "users": [{"user": f"waiting00000{number}", "state": "served"} for number in range(2)],
    }


def test_a_server_that_does_not_answer_is_75_and_so_are_too_few_nodes(config: str, cluster: SimClusterThread) -> None:
    """A later try can help, so the code differs from that of a user who is not served."""
    cluster.stop_node(2)
    cluster.stop_node(3)
    few = peruserd("wait", "served000000", "--timeout", "0", "--config", config)
    assert (few.returncode, few.stdout) == (75, "served000000: not known now: no_majority\n")
    cluster.stop_node(1)
    none = peruserd("wait", "served000000", "--timeout", "0", "--config", config)
    assert (none.returncode, none.stdout) == (75, "")
    assert "cannot reach" in none.stderr


def test_other_ends_are_as_those_of_other_commands(config: str, cluster: SimClusterThread, tmp_path: Path) -> None:
    """A mistaken configuration is 78, a wrong call is 2, and a password that is refused is 75."""
    broken = tmp_path / "broken.toml"
    broken.write_text('[http]\nusers = "all"\n')
    assert peruserd("wait", "alice", "--config", str(broken)).returncode == 78
    assert peruserd("wait", "--config", config).returncode == 2
    assert peruserd("wait", "alice", "--timeout", "soon", "--config", config).returncode == 2
    refused = {"PERUSERD_COUCHDB_URL": cluster.urls[0].replace("adm:pass", "adm:wrong")}
    assert peruserd("wait", "alice", "--config", config, environment=refused).returncode == 75


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Readiness("waiting000000", UserState.QUARANTINED, "held", passing=False), "in quarantine: held"),
        (Readiness("waiting000000", UserState.QUARANTINED, "timeout", passing=True), "in quarantine: timeout"),
        (Readiness("somebody", UserState.QUARANTINED, "held", passing=False), "not served yet"),
        (Readiness("waiting000000", UserState.SERVED), "not served yet"),
        (Readiness("waiting000000", UserState.UNKNOWN), "not served yet"),
    ],
)
def test_the_daemon_on_this_machine_is_believed_about_its_quarantine_alone(
    config: str, said: Readiness, words: str
) -> None:
    """Everything else comes from the server, because another program may listen in the daemon's place."""
    with _daemon_saying(said) as environment:
        ran = peruserd("wait", "waiting000000", "--timeout", "0", "--config", config, environment=environment)
    assert (ran.returncode, ran.stdout) == (1, f"waiting000000: {words}\n")


def test_the_words_of_a_daemon_cannot_control_the_terminal(config: str) -> None:
    """Any account of this machine may listen at the daemon's port while the daemon does not run."""
    said = Readiness("waiting000000", UserState.QUARANTINED, "a\x1b]0;b\n", passing=False, hint="c\x9b2J\u202e")
    with _daemon_saying(said) as environment:
        ran = peruserd("wait", "waiting000000", "--timeout", "0", "--config", config, environment=environment)
    words = r"waiting000000: in quarantine: a\x1b]0;b\x0a; c\x9b2J\u202e"
    assert (ran.returncode, ran.stdout.splitlines()) == (1, [words])


def test_a_user_whom_somebody_has_to_see_to_is_not_waited_for(config: str) -> None:
    """The wait ends with the first look, whatever its time-out is."""
    held = Readiness("waiting000000", UserState.QUARANTINED, "held", passing=False)
    with _daemon_saying(held) as environment:
        arguments = ("wait", "waiting000000", "--timeout", "3600", "--json", "--config", config)
        ran = peruserd(*arguments, environment=environment)
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["users"] == [
        {"user": "waiting000000", "state": "quarantined", "kind": "held", "passing": False}
    ]


def test_bytes_that_are_no_text_are_said_as_such(config: str) -> None:
    """A command line can hold any bytes, and JSON and a terminal cannot."""
    ran = peruserd("wait", "b\udcff\x1b", "--json", "--config", config)
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["users"][0]["state"] == "unservable"
