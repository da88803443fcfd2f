"""Users with names that enemies would choose are served, and steer or forge nothing that is shown of them."""

import json
from collections.abc import Callable
from urllib.parse import quote

from peruserd.core.common.escaping import named
from peruserd.core.common.names import database_name
from peruserd.simcluster import SimClusterThread
from tests.cli.running import peruserd
from tests.evil_names import EVIL, harmful
from tests.system.daemon import Daemon
from tests.system.server import PREFIX, Server
from tests.waiting import eventually

USERS = list(EVIL.values())
# No argument of a program can hold a zero byte.
TYPED = [each for each in USERS if "\0" not in each]


def _checked(command: str, *arguments: str) -> str:
    ran = peruserd(command, *arguments)
    for output in (ran.stdout, ran.stderr):
        assert not harmful(output), (command, output)
        assert "Traceback" not in output
    return ran.stdout


def test_users_with_evil_names_are_served_and_shown(
    cluster: SimClusterThread, server: Server, make_daemon: Callable[..., Daemon]
) -> None:
    """They have their databases, and no command, no page and no line of the log is steered or forged by them."""
    # A database that is deleted brings its user into quarantine, so that all of them are listed.
    daemon = make_daemon(url=cluster.urls[0], config={"databases": {"when_deleted": "report"}}).start()
    daemon.wait_until_ready()
    server.sign_up(USERS)
    eventually(lambda: all(map(server.is_served, USERS)), "all are served")
    for user in USERS:
        answer = daemon.get(f"/users/{quote(user, safe='')}")
        assert answer.json() == {"user": user, "state": "served"}
        assert not harmful(answer.text)
    for user in USERS:
        server.ask("DELETE", database_name(PREFIX, user)).raise_for_status()
    eventually(lambda: _quarantined(daemon) == len(USERS), "all are in quarantine")
    config = ("--config", str(daemon.directory / "peruserd.toml"))
    assert _checked("quarantine", "list", *config).count("database_deleted") >= len(USERS)
    owners = _checked("owner", *config, "--", *TYPED)
    assert all(f"{named(user)}: " in owners for user in TYPED)
    databases = _checked("name", "--", *TYPED)
    assert all(database_name(PREFIX, user) in databases for user in TYPED)
    _checked("wait", "--timeout", "0", *config, "--", *TYPED)
    _checked("audit", *config)
    _checked("plan", *config)
    # One line, also for programs that take other characters than \n for its end.
    (line,) = _checked("quarantine", "list", "--json", *config).splitlines()
    assert {each["user"] for each in json.loads(line)["users"]} == set(USERS)
    for page in ("/metrics", "/status.json", "/readyz"):
        text = daemon.get(page).text
        assert not harmful(text), page
        assert not any(user in text for user in USERS if "owned" in user), page
    assert [line for line in daemon.lines() if "text" in line or line["event"] == "forged"] == []
    assert "peruserd_owned" not in daemon.get("/metrics").text


def _quarantined(daemon: Daemon) -> float:
    return daemon.metrics().total("peruserd_quarantined_users")
