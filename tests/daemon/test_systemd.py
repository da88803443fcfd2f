"""Notifications to a socket of the test."""

import os
import socket
from pathlib import Path

import pytest

from peruserd.daemon.systemd import Notifier, from_environment


@pytest.mark.parametrize("abstract", [False, True])
def test_states_reach_the_socket(tmp_path: Path, *, abstract: bool) -> None:
    """Ready, status and stopping arrive in systemd's format, also at an abstract address."""
    name = f"@peruserd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0") if abstract else name)
        notifier = Notifier(name)
        notifier.ready()
        notifier.status("two lines\nare one")
        notifier.stopping()
        received = [listening.recv(200).decode() for _ in range(3)]
    assert received == ["READY=1", "STATUS=two lines are one", "STOPPING=1"]


def test_a_socket_that_is_gone_is_not_fatal(tmp_path: Path) -> None:
    """The daemon goes on if nobody reads its notifications."""
    Notifier(str(tmp_path / "nobody")).ready()


def test_without_systemd_nothing_is_sent() -> None:
    """Without NOTIFY_SOCKET no notification is sent."""
    Notifier(None).ready()


def test_children_do_not_inherit_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is removed from the environment, so that no child can report readiness in the daemon's place."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/somewhere")
    from_environment()
    assert "NOTIFY_SOCKET" not in os.environ
