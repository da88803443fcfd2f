"""Another program may listen in place of the daemon on this machine, and answer anything."""

import pytest

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


def test_a_user_in_quarantine_is_told_by_the_daemon() -> None:
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


def test_nobody_is_asked_at_a_port_that_is_not_known() -> None:
    """Port 0 is any free one; nothing listens at the other."""
    assert LocalDaemon(HTTPConfig("127.0.0.1:0")).quarantined("alice") is None
    assert LocalDaemon(HTTPConfig("[::1]:1")).quarantined("alice") is None
