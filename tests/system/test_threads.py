"""Each thread of a running supervisor fails or hangs: the part works again, or the instance ends and says why."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.supervisor.loop import Outcome
from tests.sabotage import VARIABLE, Constants, Saboteur, is_lasting, orders
from tests.system.daemon import Daemon
from tests.waiting import eventually, eventually_each

# All threads that a supervisor can have, whatever its configuration.
THREADS = {
    "authenticator",
    "control",
    "directory-watch",
    "http",
    "journal-watch",
    "loop-watch",
    "reload",
    "renewer",
    "state-writer",
    "template-keeper",
    "cluster-watch",
}

# These limits are far above what a busy machine needs, and far below what anybody wants to wait.
HURRIED = (
    ("peruserd.couch.authenticator", "_MAX_WAIT_SECONDS", 0.5),
    ("peruserd.couch.authenticator", "_REREAD_SECONDS", 0.5),
    ("peruserd.daemon.control", "_ROUND_SECONDS", 0.5),
    ("peruserd.daemon.http_server", "_ROUND_SECONDS", 0.5),
    ("peruserd.daemon.reload", "_IDLE_SECONDS", 0.5),
    ("peruserd.supervisor.state_writes", "_ASK_SECONDS", 0.5),
)

# Only where a thread is to hang. On a busy machine others could be late by as much.
IMPATIENT = (
    *HURRIED,
    ("peruserd.ending", "LEASE_SECONDS", 2.0),
    ("peruserd.supervisor.loop_watch", "_LOOK_SECONDS", 0.3),
    ("peruserd.threads", "_GRACE_SECONDS", 3.0),
)


Launch = Callable[..., tuple[Daemon, Saboteur]]
"""Starts an instance, with other constants if they are given."""


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give the address of a server that is away: nobody listens on a port that is bound only."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def launch(make_daemon: Callable[..., Daemon], nobody: str, tmp_path: Path) -> Launch:
    """Start an instance with all threads that there are, and with quick turns. No thread needs a server for that."""
    templates = tmp_path / "templates"
    (templates / "documents").mkdir(parents=True)
    (templates / "documents" / "a.json").write_text('{"_id": "a"}')
    count = 0

    def started(constants: Constants = HURRIED) -> tuple[Daemon, Saboteur]:
        nonlocal count
        count += 1
        path = tmp_path / f"sabotage-{count}"
        daemon = make_daemon(
            url=nobody,
            username="adm",
            password="pass",
            config={
                "templates": {"directory": str(templates)},
                "deletion": {"policy": "drop"},
                "cluster": {"lease_interval": 0.2},
            },
            # The loop goes round three times as often as the watchdog must hear of it.
            environment={VARIABLE: orders(path, constants), "WATCHDOG_USEC": "3000000"},
        )
        daemon.start()
        saboteur = Saboteur(path)
        # A thread that is not in the list must be added to it, and is tested like the others then.
        eventually(lambda: _lasting(saboteur) >= THREADS, "all threads have started")
        assert _lasting(saboteur) == THREADS
        return daemon, saboteur

    return started


def _lasting(saboteur: Saboteur) -> set[str]:
    return {each for each in saboteur.threads() if is_lasting(each)}


def test_a_thread_that_fails_works_again(launch: Launch) -> None:
    """Whatever is raised in it, and wherever it is: it is logged, and the thread goes on."""
    daemon, saboteur = launch()
    for name in THREADS:
        saboteur.let_fail(name)

    def works_again(name: str) -> bool:
        return any(line["part"] == name for line in daemon.lines("a part of the instance works again"))

    eventually_each(sorted(THREADS), works_again, "it works again")
    failures = daemon.lines("a part of the instance has failed and is tried again")
    assert {line["part"] for line in failures} == THREADS
    assert all("Sabotage" in str(line["exception"]) for line in failures)
    assert _lasting(saboteur) == THREADS
    assert daemon.get("/healthz").text == "ok\n"
    assert daemon.stop() == 0


def test_a_thread_that_hangs_ends_the_instance(launch: Launch) -> None:
    """The exit code asks for a restart, and the log names the thread and shows where it hangs.

    The loop itself ends nothing in order, so the loop watch ends the process.
    """
    instances = {name: launch(IMPATIENT) for name in sorted({*THREADS, "MainThread"})}
    for name, (_, saboteur) in instances.items():
        saboteur.let_hang(name)
    for name, (daemon, _) in instances.items():
        assert daemon.wait() == Outcome.EXHAUSTED, name
        text = daemon.log_file.read_text()
        assert "most recent call first" in text
        if name == "MainThread":
            assert daemon.line("the supervisor's loop stands still; the process ends") is not None
            continue
        line = daemon.line("cannot go on")
        assert line is not None
        assert re.search(f"'{name}' hangs: a sign of life is overdue", line["error"])
        assert daemon.line("stopped") is not None, "the instance ends in order"


def test_an_exception_in_the_loop_ends_the_instance(launch: Launch) -> None:
    """Nobody could go on in its place. Nothing is left behind."""
    daemon, saboteur = launch()
    saboteur.let_fail("MainThread")
    assert daemon.wait() not in (0, 75, 78)
    assert "Sabotage" in daemon.log_file.read_text()
    eventually(lambda: not daemon.processes(), "all processes have ended")
