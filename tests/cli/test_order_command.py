"""Orders to daemons that are busy, of another version, or no daemons at all."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.cli import order_command
from peruserd.cli.order_command import NotTakenError, answers, given
from peruserd.core.processes.control import MAX_ANSWER_BYTES, Done, PauseAll, encode_line, socket_path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket in the place of a daemon's, where no more than one client can wait."""
    with socket.socket(socket.AF_UNIX) as taking:
        taking.settimeout(30)
        taking.bind(str(socket_path(tmp_path)))
        taking.listen(0)
        yield taking


def _answer(listening: socket.socket, *parts: bytes) -> threading.Thread:
    """Answer the next client with these bytes, and hang up."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.makefile("rb").readline()
            try:
                for part in parts:
                    client.sendall(part)
            except OSError:
                assert len(b"".join(parts)) > MAX_ANSWER_BYTES, "a client hung up before the end of a short answer"

    serving = threading.Thread(target=serve)
    serving.start()
    return serving


@pytest.mark.parametrize(
    ("parts", "kind", "code"),
    [
        ([b""], "no_answer", 75),
        ([b"{"], "not_understood", 1),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not_understood", 1),
        ([b'{"type":"explained"}\n'], "not_understood", 1),
        ([b"\xff\xfe\n"], "not_understood", 1),
        ([b"[" * 100_000 + b"\n"], "not_understood", 1),
        ([b"x" * 65_536] * (2 * MAX_ANSWER_BYTES // 65_536), "not_understood", 1),
    ],
    ids=["nothing", "a part", "another protocol", "another version", "no text", "deep", "endless"],
)
def test_what_is_no_answer_ends_the_command(
    tmp_path: Path, listening: socket.socket, parts: list[bytes], kind: str, code: int
) -> None:
    """Whatever stands in the place of a daemon, a command takes a bounded answer of it, and says what is wrong."""
    serving = _answer(listening, *parts)
    with pytest.raises(NotTakenError) as raised:
        given(tmp_path, PauseAll())
    serving.join(30)
    assert (raised.value.kind, raised.value.code) == (kind, code)


def test_an_answer_may_come_in_pieces(tmp_path: Path, listening: socket.socket) -> None:
    """The kernel may cut an answer anywhere."""
    line = encode_line(Done("all is well"))
    serving = _answer(listening, *(line[each : each + 1] for each in range(len(line))))
    assert given(tmp_path, PauseAll()) == [Done("all is well")]
    serving.join(30)


def test_a_command_waits_for_its_turn(tmp_path: Path, listening: socket.socket) -> None:
    """While the daemon has not accepted those before, the kernel turns clients away, and the command tries again."""
    with socket.socket(socket.AF_UNIX) as before:
        before.connect(str(socket_path(tmp_path)))
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.extend(answers(tmp_path, PauseAll())))
        waiting.start()
        waiting.join(0.3)
        assert not found
        listening.accept()[0].close()
        serving = _answer(listening, encode_line(Done()))
        waiting.join(30)
        serving.join(30)
    assert found == [Done()]


@pytest.mark.usefixtures("listening")
def test_a_daemon_that_accepts_nobody_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command does not wait for ever for a daemon that is stopped or stuck."""
    monkeypatch.setattr(order_command, "_TURN_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as before:
        before.connect(str(socket_path(tmp_path)))
        with pytest.raises(NotTakenError, match="accepts no connection") as raised:
            given(tmp_path, PauseAll())
    assert (raised.value.kind, raised.value.code) == ("no_answer", 75)
