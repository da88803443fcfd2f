"""Another program may listen in place of the daemon on this machine, and answer anything."""

import threading

import pytest

from peruserd.cli import wait
from peruserd.cli.local_daemon import LocalDaemon
from peruserd.core.configuration.config import HTTPConfig
from peruserd.core.users.readiness import Readiness, UserState
from tests.couch.connecting import Conversation, TalkingServer, answer

HELD = {"user": "a/b", "state": "quarantined", "kind": "held", "passing": False}
BEGIN = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n"


def _asked(said: bytes) -> tuple[Readiness | None, str]:
    """Ask a server that always answers these bytes; return the result and the requested path."""

    def script(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(said)
        conversation.cut()

    with TalkingServer(script) as server:
        found = LocalDaemon(HTTPConfig(server.url.rpartition("@")[2])).quarantined("a/b")
        return found, server.requests[0].path


def test_the_daemon_reports_a_user_in_quarantine() -> None:
    """The name is quoted, slashes included."""
    assert _asked(answer(409, HELD)) == (
        Readiness("a/b", UserState.QUARANTINED, "held", passing=False),
        "/users/a%2Fb",
    )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        BEGIN + b"\r\n",
        BEGIN + b"Content-Encoding: gzip\r\n\r\n" + b"x" * 400,
        answer(200, b"<html>"),
        answer(200, [HELD]),
        answer(200, b"[" * 10_000),
        answer(200, HELD | {"user": "alice"}),
        answer(200, HELD | {"state": "served"}),
        answer(200, HELD | {"state": "asleep"}),
        answer(200, {"user": "a/b", "state": "quarantined", "kind": "x" * 100_000}),
        answer(403, {"error": "closed", "reason": "…"}),
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_any_other_answer_says_nothing(said: bytes) -> None:
    """It causes no error, and none of its text is used."""
    assert _asked(said)[0] is None


def test_a_daemon_at_an_unknown_port_is_not_asked() -> None:
    """Port 0 stands for any free port. No program listens at the other port here."""
    assert LocalDaemon(HTTPConfig("127.0.0.1:0")).quarantined("alice") is None
    assert LocalDaemon(HTTPConfig("[::1]:1")).quarantined("alice") is None


def test_a_daemon_that_trickles_is_left_alone_for_a_while() -> None:
    """Its answer has no end, and must not make the wait much longer."""
    ended = threading.Event()

    def trickle(conversation: Conversation) -> None:
        conversation.request()
        conversation.send(BEGIN + b"\r\n")
        while not ended.wait(0.02):
            conversation.send(b" ")

    now = [0.0]
    with TalkingServer(trickle) as server:
        daemon = LocalDaemon(HTTPConfig(server.url.rpartition("@")[2]), seconds=0.05, clock=lambda: now[0])
        asked = []
        for now[0] in (0.0, 1.0, 59.0, 61.0):
            assert daemon.quarantined("alice") is None
            asked.append(len(server.requests))
        ended.set()
    assert asked == [1, 1, 1, 2]


class Slow:
    """Stands for the clock, and for a reader whose looks take a second each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def look(self, user: str, _number: int) -> Readiness:
        """Look at a user who is never served."""
        with self._lock:
            self.looks += 1
            self.now += 1.0
        return Readiness(user, UserState.IN_PROGRESS)


def test_a_wait_for_many_users_ends_in_the_midst_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user is looked at once, and nobody again once the time is over."""
    slow = Slow()
    monkeypatch.setattr(wait, "time", slow)
    users = [f"user-{number}" for number in range(20)]
    waiting = wait._Waiting(slow, LocalDaemon(HTTPConfig("127.0.0.1:0")), users)  # type: ignore[arg-type]
    waiting.run(25.0)
    assert [each.user for each in waiting.found()] == users
    # Looks that have begun come to their end.
    assert 20 <= slow.looks <= 30
