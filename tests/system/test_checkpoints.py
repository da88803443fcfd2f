"""Invalid checkpoints: another history behind the same identity, and other wanted databases."""

from collections.abc import Callable

import pytest

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import HASH_SPACE
from peruserd.simcluster import SimClusterThread
from tests.system.daemon import Daemon
from tests.system.server import PREFIX, Server
from tests.waiting import eventually

LOST, SINCE = 20, 60


@pytest.fixture
def daemon(cluster: SimClusterThread, make_daemon: Callable[..., Daemon]) -> Daemon:
    """An instance that is not started yet."""
    return make_daemon(url=cluster.urls[0])


def names(prefix: str, count: int) -> list[str]:
    """Return names of users."""
    return [f"{prefix}-{number}" for number in range(count)]


def wait_until_served(server: Server, users: list[str]) -> None:
    """Wait until all of the users are served."""
    eventually(lambda: not server.unserved(users), "everybody is served")


def scans(daemon: Daemon) -> float:
    """Return how many scans have ended since the start."""
    return daemon.metrics().total("peruserd_scans_total")


def test_files_put_back_while_it_was_stopped_are_noticed(
    cluster: SimClusterThread, server: Server, daemon: Daemon
) -> None:
    """More users have signed up since than were lost, so the end of the copy proves nothing."""
    server.sign_up(names("early", 5))
    backup = cluster.back_up_copies(1, "_users")
    server.sign_up(names("lost", LOST))
    daemon.start().wait_until_scanned()
    assert daemon.stop() == 0
    cluster.restore_copies(backup)
    server.sign_up(names("since", SINCE))
    daemon.start().wait_until_scanned()
    assert server.unserved(names("since", SINCE)) == []
    assert any("another history" in line["why"] for line in daemon.lines("following"))


def test_files_put_back_while_it_runs_are_noticed(cluster: SimClusterThread, server: Server, daemon: Daemon) -> None:
    """A restore stops the node; the listener that finds it again looks at all users anew."""
    server.sign_up(names("early", 5))
    backup = cluster.back_up_copies(1, "_users")
    daemon.start().wait_until_scanned()
    lost = names("lost", LOST)
    server.sign_up(lost)
    wait_until_served(server, lost)
    cluster.stop_node(1)
    eventually(lambda: not daemon.is_ready, "the node is missed")
    cluster.restore_copies(backup)
    cluster.start_node(1)
    server.sign_up(names("since", SINCE))
    wait_until_served(server, names("since", SINCE))
    daemon.wait_until_scanned()


def test_another_history_with_the_same_newest_row_is_noticed(
    cluster: SimClusterThread, server: Server, daemon: Daemon
) -> None:
    """The same number of users has signed up since as was lost, and the last lost one again with the same document."""
    users = [name for name in names("user", 100) if document_hash(user_document_id(name)) < HASH_SPACE // 2]
    lost, since, last = users[:16], users[16:32], users[32]

    def write(names: list[str]) -> None:
        for name in names:
            server.put("_users", user_document_id(name), body={"name": name, "roles": [], "type": "user"})

    backup = cluster.back_up_copies(1, "_users")
    write([*lost, last])
    row = server.get("_users", user_document_id(last))
    daemon.start().wait_until_scanned()
    assert daemon.stop() == 0
    cluster.restore_copies(backup)
    write([*since, last])
    assert server.get("_users", user_document_id(last)) == row
    daemon.start().wait_until_scanned()
    assert server.unserved(since) == []


def stop_and_change_documents(server: Server, daemon: Daemon) -> None:
    """Let users be served, stop the daemon, and change each document that it has read."""
    users = names("user", 6)
    server.sign_up(users)
    daemon.start().wait_until_scanned()
    assert daemon.stop() == 0
    for name in users:
        document = server.get("_users", user_document_id(name))
        server.put("_users", user_document_id(name), body={**document, "more": True})


@pytest.mark.parametrize("question", ["_changes", "_revs_diff"])
def test_a_question_that_is_refused_keeps_nobody_waiting(
    cluster: SimClusterThread, server: Server, daemon: Daemon, question: str
) -> None:
    """A proxy that lets reads through and refuses the proof of a checkpoint costs a scan, and the log says so."""
    stop_and_change_documents(server, daemon)
    server.sign_up(names("new", 3))
    cluster.fail(1, 403, method="POST", path_regex=f"shards.*{question}")
    daemon.start()
    wait_until_served(server, names("new", 3))
    assert {line["why"] for line in daemon.lines("following")} == {
        "it cannot be found out whether the copy has the row at the checkpoint"
    }
    server.sign_up(names("live", 3))
    wait_until_served(server, names("live", 3))


def test_a_document_that_changes_at_the_checkpoint_costs_no_scan(server: Server, daemon: Daemon) -> None:
    """The row has moved on, but the copy knows its earlier revision."""
    stop_and_change_documents(server, daemon)
    daemon.start().wait_until_scanned()
    assert scans(daemon) == 0
    assert {line["why"] for line in daemon.lines("following")} == {"the checkpoint holds"}


def test_another_prefix_makes_a_database_for_everybody(
    cluster: SimClusterThread, server: Server, daemon: Daemon
) -> None:
    """The state knows which users were looked at, but nothing of the wanted databases."""
    users = names("user", 10)
    server.sign_up(users)
    daemon.start().wait_until_scanned()
    assert daemon.stop() == 0
    assert server.unserved(users) == []
    daemon.config["databases"] = {"prefix": "private-"}
    daemon.start().wait_until_scanned()
    assert {database_name("private-", name) for name in users} <= set(cluster.databases())
    assert {database_name(PREFIX, name) for name in users} <= set(cluster.databases())
    assert daemon.stop() == 0
    daemon.start().wait_until_scanned()
    assert scans(daemon) == 0
