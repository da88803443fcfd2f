"""Users with names that enemies would choose are served, and steer or forge nothing that is shown of them."""

import json
from collections.abc import Callable
from urllib.parse import quote

from peruserd.core.common.escaping import named
from peruserd.core.common.names import database_name
from peruserd.core.common.pseudonyms import hashed
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


def test_no_line_of_the_log_has_a_name(
    cluster: SimClusterThread, server: Server, make_daemon: Callable[..., Daemon]
) -> None:
    """Neither a name nor its hex nor its form in an address is in a line, whatever happens to its user."""
    config = {"log": {"users": "hash"}, "deletion": {"policy": "drop", "grace_period": 0}}
    daemon = make_daemon(url=cluster.urls[0], config=config).start()
    daemon.wait_until_ready()
    # A listener that hears 403 of one path asks whether its token is taken, and then blames the user.
    cluster.fail(1, 403, path_regex="userdb-.*/_security")
    server.sign_up(USERS)
    eventually(lambda: _quarantined(daemon) == len(USERS), "all are in quarantine")
    cluster.clear_faults()
    cluster.fail(1, "cut", path_regex="userdb-", method="PUT", count=len(USERS))
    config_file = ("--config", str(daemon.directory / "peruserd.toml"))
    assert peruserd("quarantine", "retry", "--all", *config_file).returncode == 0
    eventually(lambda: all(map(server.is_served, USERS)), "all are served")
    server.remove(USERS)
    eventually(lambda: not any(name.startswith(PREFIX) for name in server.databases()), "all databases are dropped")
    assert daemon.stop() == 0
    text = daemon.log_file.read_text()
    for user in (each for each in USERS if len(each.strip()) > 3):
        forms = {user, json.dumps(user)[1:-1], user.encode().hex(), quote(user, safe="")}
        assert [form for form in forms if form in text] == []
    hashes = {hashed(user) for user in USERS}
    told = {line["event"]: line for line in daemon.lines() if any(each in json.dumps(line) for each in hashes)}
    assert {"audit", "user not served; kept in quarantine"} <= set(told)
    assert all(f'"org.couchdb.user:{each}"' in text for each in hashes)


def _quarantined(daemon: Daemon) -> float:
    return daemon.metrics().total("peruserd_quarantined_users")
