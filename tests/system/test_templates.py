"""Templates with real processes: new users find documents, and a rollout beside the daemon serves old ones."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.server import PREFIX, Server
from tests.waiting import eventually, eventually_each

EARLY = ("ann", "bob", "kim")


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Two nodes; an instance runs beside the first one."""
    with SimClusterThread(ClusterOptions(nodes=2, n=2, q=2)) as running:
        yield running


def write(directory: Path, version: int) -> None:
    """Write a template in this version."""
    (directory / "documents").mkdir(parents=True, exist_ok=True)
    template = {"_id": "profile", "of": "{user}", "version": version}
    (directory / "documents" / "profile.json").write_text(json.dumps(template), encoding="utf-8")


@pytest.fixture
def daemon(cluster: SimClusterThread, make_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    """An instance with a template in its first version, which is not started yet."""
    write(tmp_path / "templates", 1)
    config = {
        "templates": {"directory": str(tmp_path / "templates")},
        "security": {"grant": "member"},
        # A round a second.
        "audit": {"interval": 1.0, "rate": 10_000.0},
    }
    return make_daemon(url=cluster.urls[0], config=config)


def profile(server: Server, user: str) -> dict[str, Any] | None:
    """Return a user's document, without what CouchDB keeps in it."""
    answer = server.ask("GET", database_name(PREFIX, user), "profile")
    return {k: v for k, v in answer.json().items() if k[0] != "_"} if answer.status_code == 200 else None


def is_let_in(server: Server, user: str) -> bool:
    """Say whether a user is a member of the database."""
    answer = server.ask("GET", database_name(PREFIX, user), "_security")
    return answer.status_code == 200 and user in answer.json().get("members", {}).get("names", [])


def sign_up(server: Server, users: tuple[str, ...]) -> None:
    """Sign up and wait to be let in."""
    server.sign_up(users)
    eventually_each(users, lambda user: is_let_in(server, user), "the user is let in")


def outdated(daemon: Daemon) -> float:
    """Return the number of databases with an old or missing version in the last round of the audit."""
    return daemon.metrics().total("peruserd_audit_findings", kind="template", round="last")


def test_new_users_find_documents_and_old_ones_get_them(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    """A new user finds the document. A later version reaches old users by the command, beside the running daemon.

    The daemon's audit counts the old versions, and leaves them as they are.
    """
    daemon.start()
    sign_up(server, EARLY)
    assert [profile(server, user) for user in EARLY] == [{"of": user, "version": 1} for user in EARLY]
    assert server.security("ann")["admins"]["names"] == []
    eventually(lambda: daemon.line("templates are on record") is not None, "the version is on record")
    assert daemon.stop() == 0

    write(tmp_path / "templates", 2)
    revision = server.get(database_name(PREFIX, "bob"), "profile")["_rev"]
    server.put(database_name(PREFIX, "bob"), "profile", body={"_rev": revision, "mine": True})
    daemon.start().wait_until_scanned()
    sign_up(server, ("new",))
    assert profile(server, "new") == {"of": "new", "version": 2}
    assert profile(server, "ann") == {"of": "ann", "version": 1}

    eventually(lambda: outdated(daemon) == len(EARLY) - 1, "the audit reports those whose users left them alone")
    assert profile(server, "ann") == {"of": "ann", "version": 1}
    config = str(daemon.directory / "peruserd.toml")
    assert peruserd("templates", "status", "--config", config).returncode == 1
    ran = peruserd("templates", "rollout", "--config", config)
    assert ran.returncode == 0, ran.stderr
    assert "bob: kept: profile (changed by its user)" in ran.stdout
    assert profile(server, "ann") == {"of": "ann", "version": 2}
    assert profile(server, "bob") == {"mine": True}
    eventually(lambda: outdated(daemon) == 0, "the audit finds nothing any more")
    assert peruserd("templates", "status", "--config", config).returncode == 0
    assert daemon.stop() == 0


def test_a_template_that_cannot_be_one_ends_the_start(daemon: Daemon, tmp_path: Path) -> None:
    """The daemon ends before it serves anybody, and systemd does not start it again."""
    bad = {"_id": "_design/x", "validate_doc_update": "function () { '{user}' }"}
    (tmp_path / "templates" / "documents" / "bad.json").write_text(json.dumps(bad), encoding="utf-8")
    daemon.launch()
    assert daemon.wait() == 78
    assert "bad.json: it is a design document" in daemon.log_file.read_text()
