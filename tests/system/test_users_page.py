"""The page about one user, of daemons beside the nodes of a cluster."""

import signal
import threading
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import requests

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def _ask(instance: Daemon, name: str, wait_seconds: float = 0) -> tuple[int, str]:
    """Ask an instance about a user; return the status and the state."""
    answer = requests.get(f"{instance.http}/users/{quote(name, safe='')}?wait={wait_seconds}", timeout=90)
    return answer.status_code, answer.json()["state"]


def test_any_instance_tells_when_a_user_is_served(team: Team) -> None:
    """A user signs up and is asked for at once; every instance answers, whichever one serves the user."""
    names = [*team.target.new_names(2), "a/b ü%\x01?"]
    for name in names:
        assert _ask(team.instances[0], name) == (404, "unknown")
    team.target.sign_up(names)
    for instance in team.instances:
        for name in names:
            assert _ask(instance, name, 60) == (200, "served")
    config = str(team.instances[0].directory / "peruserd.toml")
    assert peruserd("wait", *names, "--config", config).returncode == 0
    team.target.delete_user(names[0])
    assert _ask(team.instances[1], names[0], 60) == (404, "unknown")


def test_a_wait_does_not_hold_up_the_end_of_an_instance(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """The request is answered with the present knowledge, and the instance ends in order."""
    instance = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
    instance.wait_until_ready()
    # The listeners stand still, so nobody is served.
    for pid in instance.listeners():
        instance.signal_listener(pid, signal.SIGSTOP)
    (name,) = target.new_names(1)
    target.sign_up([name])
    answers: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(instance, name, 60)))
    thread.start()
    assert _ask(instance, name, 0.5) == (202, "in_progress")
    for pid in instance.listeners():
        instance.signal_listener(pid, signal.SIGCONT)
    instance.stop()
    thread.join(60)
    assert answers
    assert answers[0][1] in ("in_progress", "served")


def test_the_instance_that_failed_to_serve_a_user_says_so(team: Team) -> None:
    """The instance with the user in quarantine gives the kind of failure; the others see work in progress."""
    (name,) = team.target.new_names(1)
    database = quote(database_name(PREFIX, name), safe="")
    assert team.target.request("PUT", f"/{database}").ok
    for node in range(1, 4):
        assert team.target.sim is not None
        team.target.sim.set_copy_security(node, database_name(PREFIX, name), {"admins": {"names": "everybody"}})
    team.target.sign_up([name])
    answers = [(404, {"state": ""})]

    def are_known() -> bool:
        urls = [f"{instance.http}/users/{quote(name, safe='')}" for instance in team.instances]
        asked = [requests.get(url, timeout=90) for url in urls]
        answers[:] = [(each.status_code, each.json()) for each in asked]
        return sorted(status for status, _ in answers) == [202, 202, 409]

    eventually(are_known, f"one instance says why: {answers}")
    (said,) = [body for status, body in answers if status == 409]
    assert said == {"user": name, "state": "quarantined", "kind": "malformed_security", "passing": False}
