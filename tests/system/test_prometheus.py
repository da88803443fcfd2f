"""A real Prometheus scrapes a running instance: its alerts fire by real faults, and end when these are mended."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from peruserd.cli import main
from peruserd.core.common.names import database_name
from peruserd.monitoring.dashboard import dashboard
from peruserd.monitoring.exported import ALERTS
from peruserd.monitoring.recordings import RECORDINGS
from peruserd.simcluster import ClusterOptions
from tests.monitoring.test_dashboard import expressions
from tests.system.daemon import Daemon
from tests.system.prometheus import Prometheus
from tests.system.target import PREFIX, Target, open_simulated
from tests.waiting import eventually

# A minute of the rules is 0.6 s.
SCALE = 0.01

# Panels without a figure while nobody signs up, and before a whole round of the audit.
OFTEN_EMPTY = ("job:peruserd_provisioning_", "peruserd_audit_age_seconds")


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of one node."""
    with open_simulated(ClusterOptions(nodes=1, q=1, n=1)) as opened:
        yield opened


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], target: Target) -> Daemon:
    """Run an instance beside the node."""
    daemon = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
    daemon.wait_until_ready()
    return daemon


@pytest.fixture
def prometheus(need_tool: Callable[[str], str], tmp_path: Path, daemon: Daemon) -> Iterator[Prometheus]:
    """Run Prometheus with the exported rules."""
    program = need_tool("prometheus")
    directory = tmp_path / "prometheus"
    assert main(["monitoring", "export", str(directory), "--scale", str(SCALE)]) == 0
    with Prometheus(program, directory, [daemon.http.removeprefix("http://")]) as running:
        eventually(lambda: running.query("up == 1"), "the instance is scraped")
        yield running


def wait_until_firing(prometheus: Prometheus, name: str) -> dict[str, str]:
    """Wait until an alert fires; return its annotations."""
    return eventually(lambda: prometheus.firing().get(name), f"{name} fires")


def wait_until_over(prometheus: Prometheus, name: str) -> None:
    """Wait until an alert does not fire any more."""
    eventually(lambda: name not in prometheus.firing(), f"{name} is over")


def change_password(target: Target, password: str) -> None:
    """Change the admin's password on the server."""
    url = f"{target.urls[0]}/_node/_local/_config/admins/{target.username}"
    answer = requests.put(url, json=password, auth=(target.username, target.password), timeout=60)
    assert answer.status_code == 200, answer.text


def test_three_alerts_fire_and_end_by_real_faults(prometheus: Prometheus, daemon: Daemon, target: Target) -> None:
    """A cluster that takes no writes, a user who cannot be served, and a password that was changed."""
    assert target.sim is not None
    known = prometheus.rules()
    assert {each["name"] for each in known} == {each.name for each in ALERTS} | {each.record for each in RECORDINGS}
    names = target.new_names(4)
    target.sign_up(names[:1])
    eventually(lambda: not target.unserved(names[:1]), "a user is served")

    # The cluster takes no writes, as with a full disk.
    target.sim.fail(1, 403, method="PUT")
    target.sign_up(names[1:2])
    said = wait_until_firing(prometheus, "PeruserdOnHold")
    assert said["runbook_url"] == "docs/alerts.md#peruserdonhold"
    assert "tries no user" in said["description"]
    target.sim.clear_faults()
    wait_until_over(prometheus, "PeruserdOnHold")

    # One user's database does not take its security object.
    enemy = names[2]
    target.sim.fail(1, 400, method="PUT", path_regex=f"{database_name(PREFIX, enemy)}/_security")
    target.sign_up([enemy])
    said = wait_until_firing(prometheus, "PeruserdUsersNeedAPerson")
    assert said["description"].endswith(": 1.")
    target.sim.clear_faults()
    wait_until_over(prometheus, "PeruserdUsersNeedAPerson")

    # The password is changed on the server, and later in the file.
    change_password(target, "another")
    said = wait_until_firing(prometheus, "PeruserdPasswordRefused")
    assert daemon.http.removeprefix("http://") in said["summary"]
    daemon.password_file.write_text("another\n")
    wait_until_over(prometheus, "PeruserdPasswordRefused")

    eventually(lambda: not prometheus.firing(), "all is well again")
    assert {each["health"] for each in prometheus.rules()} == {"ok"}
    # What is shown only above 0 is trouble, or an event.
    shown = [each for each in expressions(dashboard("peruserd")) if not each.endswith("> 0")]
    assert [each for each in shown if not (prometheus.query(each) or each.startswith(OFTEN_EMPTY))] == []


def test_promtool_has_nothing_to_say_about_a_running_instance(
    need_tool: Callable[[str], str], daemon: Daemon, target: Target
) -> None:
    """All metrics at once, with those of the process, after some work."""
    names = target.new_names(3)
    target.sign_up(names)
    eventually(lambda: not target.unserved(names), "users are served")
    checked = subprocess.run(
        [need_tool("promtool"), "check", "metrics"],
        input=daemon.get("/metrics").content,
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
