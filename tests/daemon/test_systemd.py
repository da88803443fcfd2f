"""Notifications to a socket of the test."""

import os
import socket
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd.core.common.names import database_name
from peruserd.core.common.pseudonyms import hashed
from peruserd.core.configuration.config import LogConfig
from peruserd.daemon.systemd import Notifier, from_environment
from tests.evil_names import EVIL, UNSERVABLE, harmful
from tests.logging_setup import logging_to


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Listen in systemd's place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30.0)
        yield listening


@pytest.mark.parametrize("abstract", [False, True])
def test_states_reach_the_socket(tmp_path: Path, *, abstract: bool) -> None:
    """Ready, status and stopping arrive in systemd's format, also at an abstract address."""
    name = f"@peruserd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0") if abstract else name)
        notifier = Notifier(name)
        notifier.ready()
        notifier.status("two lines\nare one")
        notifier.extend_timeout(1.5)
        notifier.stopping()
        received = [listening.recv(200).decode() for _ in range(4)]
    assert received == ["READY=1", "STATUS=two lines are one", "EXTEND_TIMEOUT_USEC=1500000", "STOPPING=1"]


def test_a_reload_says_when_it_began(systemd: socket.socket) -> None:
    """Systemd compares the time with its own, so it must be of the same clock, in microseconds."""
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    Notifier(systemd.getsockname()).reloading()
    state, began = systemd.recv(200).decode().splitlines()
    assert state == "RELOADING=1"
    name, _, value = began.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before - 0.001 <= int(value) / 1_000_000 <= time.clock_gettime(time.CLOCK_MONOTONIC)


WORDS = {
    **EVIL,
    **UNSERVABLE,
    "controls": "\x1b[2J\u202egone\nREADY=1\rSTOPPING=1",
    "separators": "\u2028READY=1\x85\x0b",
    "surrogates": "\ud800" * 1_000,
    "four bytes each": "\U0001f600" * 5_000,
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_status_is_one_line_that_controls_nothing(systemd: socket.socket, words: str) -> None:
    """A server's words can be in it, and systemd would read a second line as another state."""
    Notifier(systemd.getsockname()).status(words)
    received = systemd.recv(100_000)
    assert len(received) <= 4_096
    text = received.decode()
    assert text.startswith("STATUS=")
    assert len(text.splitlines()) == 1
    assert not harmful(text)


def test_a_status_names_users_as_the_log_does(systemd: socket.socket) -> None:
    """A server's words can name a database, and `systemctl status` is copied like a log. A long line is cut later."""
    words = f"on hold: {'x' * 350} /{database_name('userdb-', 'alice' * 6)}/_security"
    with logging_to(StringIO(), LogConfig()):
        Notifier(systemd.getsockname()).status(words)
    assert systemd.recv(5_000).decode() == f"STATUS=on hold: {'x' * 350} /userdb-{hashed('alice' * 6)}/_security"


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "\u0661"}, None),
        ({}, None),
    ],
    ids=["ours", "nobodys", "anothers", "off", "no-number", "no-digit", "none"],
)
def test_the_watchdog_is_for_the_process_that_systemd_names(
    systemd: socket.socket, environment: dict[str, str], seconds: float | None
) -> None:
    """Without a watchdog nothing is sent to it."""
    notifier = from_environment({"NOTIFY_SOCKET": systemd.getsockname(), **environment})
    assert notifier.watchdog_seconds == seconds
    notifier.watchdog()
    notifier.stopping()
    expected = ["STOPPING=1"] if seconds is None else ["WATCHDOG=1", "STOPPING=1"]
    assert [systemd.recv(200).decode() for _ in expected] == expected


def test_a_socket_that_is_gone_is_not_fatal(tmp_path: Path) -> None:
    """The daemon goes on if nobody reads its notifications, and says so once."""
    notifier = Notifier(str(tmp_path / "nobody"))
    with capture_logs() as logged:
        notifier.ready()
        notifier.status("nobody hears this")
    assert [line["log_level"] for line in logged] == ["warning"]


def test_without_systemd_nothing_is_sent() -> None:
    """Without NOTIFY_SOCKET no notification is sent."""
    notifier = Notifier(None)
    notifier.ready()
    assert notifier.is_ready


def test_the_end_of_the_start_is_said_until_it_is_heard(tmp_path: Path) -> None:
    """Systemd's queue can be full. Without this word it would end the daemon."""
    path = tmp_path / "notify"
    notifier = Notifier(str(path))
    notifier.ready()
    notifier.repeat()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)  # noqa: FBT003 - its only parameter
        notifier.repeat()
        notifier.repeat()
        assert listening.recv(200) == b"READY=1"
        with pytest.raises(BlockingIOError):
            listening.recv(200)


def test_a_full_queue_holds_nobody_up(systemd: socket.socket) -> None:
    """The supervisor's loop notifies systemd, and must go round."""
    notifier = Notifier(systemd.getsockname(), 60.0)
    with capture_logs() as logged:
        while not logged:
            notifier.watchdog()
    assert logged[0]["event"] == "systemd was not notified"


def test_children_do_not_inherit_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are removed from the environment, so that no child can report in the daemon's place."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    from_environment()
    assert not os.environ.keys() & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}


def test_a_status_line_is_sent_when_it_changes_only(systemd: socket.socket) -> None:
    """The heartbeat says it every second."""
    notifier = Notifier(systemd.getsockname())
    for sentence in ("well", "well", "not well", "not well", "well"):
        notifier.status(sentence)
    notifier.stopping()
    assert [systemd.recv(200).decode() for _ in range(4)] == [
        "STATUS=well",
        "STATUS=not well",
        "STATUS=well",
        "STOPPING=1",
    ]


def test_a_status_line_that_was_not_sent_is_sent_again(tmp_path: Path) -> None:
    """Systemd may not read for a while."""
    path = str(tmp_path / "notify")
    notifier = Notifier(path)
    notifier.status("well")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(30.0)
        notifier.status("well")
        assert listening.recv(200) == b"STATUS=well"
