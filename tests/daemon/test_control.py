import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from peruserd.core.deletions.journal import Word
from peruserd.core.processes.control import (
    MAX_BYTES,
    Answer,
    Done,
    Noted,
    Order,
    PauseAll,
    Refused,
    ResumeOnly,
    Say,
    decode_answer,
    decode_order,
    encode_line,
    socket_path,
)
from peruserd.daemon import control
from peruserd.daemon.control import ControlSocket, reachable

ORDER = Say(Word.CANCEL, ("ann", "bob"))


class OrderTaker:
    """Notes orders, and answers each with given answers."""

    def __init__(self, *answers: Answer) -> None:
        self.orders: list[tuple[Order, int]] = []
        self.answers = answers or (Done(),)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, order: Order, uid: int) -> Iterator[Answer]:
        self.orders.append((order, uid))
        self.gate.wait(30)
        yield from self.answers


class Unsendable(Done, frozen=True):
    """An answer that cannot be put into bytes."""

    secret: object = object()


@pytest.fixture
def taker() -> OrderTaker:
    """A part that carries out orders."""
    return OrderTaker()


@pytest.fixture
def control_socket(tmp_path: Path, taker: OrderTaker) -> Iterator[ControlSocket]:
    """A control socket in a directory of its own, in use."""
    serving = ControlSocket(tmp_path, taker)
    serving.start()
    yield serving
    serving.stop()


def talk(path: Path, message: bytes) -> list[Answer]:
    """Send a message and return the answers until the other side hangs up."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        with reachable(path) as address:
            client.connect(address)
        client.sendall(message)
        with client.makefile("rb") as lines:
            return [decode_answer(line) for line in lines]


@pytest.mark.usefixtures("control_socket")
def test_an_order_is_carried_out_and_answered(tmp_path: Path, taker: OrderTaker) -> None:
    """The order arrives unchanged, with the user who sent it, and the answers come back in order."""
    taker.answers = (Noted("ann", "deletion:x:1-a", "x"), Done("all is well"))
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == list(taker.answers)
    assert taker.orders == [(ORDER, os.geteuid())]


@pytest.mark.usefixtures("control_socket")
def test_only_its_owner_may_touch_the_socket(tmp_path: Path) -> None:
    """By the mode of the file only the daemon's account can connect."""
    mode = socket_path(tmp_path).stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)


@pytest.mark.usefixtures("control_socket")
def test_another_user_is_refused(tmp_path: Path, taker: OrderTaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel names another user than ours, the order is refused, even if that user could connect."""
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    monkeypatch.setattr(control, "_CREDENTIALS", _Stranger)
    (answer,) = talk(socket_path(tmp_path), encode_line(ORDER))
    assert isinstance(answer, Refused)
    assert not answer.again
    assert taker.orders == []


class _Stranger:
    """Stands in for the kernel's answer about the client."""

    size = 12

    @staticmethod
    def unpack(_: bytes) -> tuple[int, int, int]:
        """Return the process, user and group of a stranger."""
        return 1, 54_321, 1


@pytest.mark.usefixtures("control_socket")
@pytest.mark.parametrize(
    "message",
    [
        b"\n",
        b"hello\n",
        b'{"type":"say","word":"explode","users":["ann"]}\n',
        b'{"type":"say","word":"cancel","users":["ann"],"more":1}\n',
        b'{"type":"burn"}\n',
        b'{"type":"say","word":"cancel","users":[1]}\n',
        b'{"type":"say","word":"cancel","users":["\xff"]}\n',
    ],
)
def test_what_is_not_understood_does_nothing(tmp_path: Path, taker: OrderTaker, message: bytes) -> None:
    """A message of another version, or an invalid one, is answered with an error, and not carried out."""
    (answer,) = talk(socket_path(tmp_path), message)
    assert isinstance(answer, Refused)
    assert taker.orders == []


@pytest.mark.usefixtures("control_socket")
def test_a_message_that_never_ends_is_not_read_to_the_end(tmp_path: Path, taker: OrderTaker) -> None:
    """A client that sends too long a message is refused, and takes no more memory than a message may have."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(socket_path(tmp_path)))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(b"x" * (20 * MAX_BYTES))
    assert taker.orders == []
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == [Done()]


@pytest.mark.usefixtures("control_socket")
def test_a_silent_client_keeps_nobody_waiting(
    tmp_path: Path, taker: OrderTaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon hangs up on a client that sends nothing, and serves others meanwhile."""
    monkeypatch.setattr(control, "_PATIENCE_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(30)
        silent.connect(str(socket_path(tmp_path)))
        assert talk(socket_path(tmp_path), encode_line(PauseAll())) == [Done()]
        assert silent.recv(1) == b""
    assert taker.orders == [(PauseAll(), os.geteuid())]


@pytest.mark.usefixtures("control_socket")
def test_a_client_that_sends_byte_by_byte_has_no_more_time_than_others(
    tmp_path: Path, taker: OrderTaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time holds for the whole message, and not for each part of it. So nobody can keep a place for ever."""
    monkeypatch.setattr(control, "_PATIENCE_SECONDS", 0.3)
    with _connected(tmp_path) as slow:
        _drip(slow)
    assert taker.orders == []


@pytest.mark.usefixtures("control_socket")
def test_slow_clients_without_a_place_keep_nobody_waiting(tmp_path: Path, taker: OrderTaker) -> None:
    """With all places taken, one who sends byte by byte is turned away soon, though others wait behind it."""
    taker.gate.clear()
    holders = [_connected(tmp_path) for _ in range(control._MAX_CLIENTS)]
    for each in holders:
        each.sendall(encode_line(ORDER))
    while len(taker.orders) < len(holders):
        threading.Event().wait(0.005)
    with _connected(tmp_path) as slow:
        _drip(slow)
    (busy,) = talk(socket_path(tmp_path), encode_line(ORDER))
    assert isinstance(busy, Refused)
    taker.gate.set()
    for each in holders:
        each.close()


@pytest.mark.usefixtures("control_socket")
def test_clients_that_do_not_read_give_their_places_back(
    tmp_path: Path, taker: OrderTaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that nobody takes are not kept for ever. All places are free again after the time of one."""
    monkeypatch.setattr(control, "_PATIENCE_SECONDS", 0.3)
    short, taker.answers = taker.answers, (Done("x" * (8 * 1024 * 1024)),)
    deaf = [_connected(tmp_path) for _ in range(control._MAX_CLIENTS)]
    for each in deaf:
        each.sendall(encode_line(ORDER))
    while len(taker.orders) < len(deaf):
        threading.Event().wait(0.005)
    taker.answers = short
    while talk(socket_path(tmp_path), encode_line(ORDER)) != [Done()]:
        threading.Event().wait(0.05)
    for each in deaf:
        each.close()


@pytest.mark.usefixtures("control_socket")
def test_clients_that_leave_at_once_leave_their_places(tmp_path: Path, taker: OrderTaker) -> None:
    """Many that connect and hang up, before a word or within one, take no place from those who speak."""
    for number in range(control._MAX_WAITING):
        # The daemon may have hung up already.
        with _connected(tmp_path) as fleeting, contextlib.suppress(OSError):
            fleeting.sendall(b'{"type":"say","wo'[: number % 18])
    while talk(socket_path(tmp_path), encode_line(ORDER)) != [Done()]:
        threading.Event().wait(0.05)
    assert {order for order, _ in taker.orders} == {ORDER}


def _connected(directory: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(socket_path(directory)))
    return client


def _drip(client: socket.socket) -> None:
    """Send a byte at a time until the other side hangs up, and no more than 600."""
    for _ in range(600):
        try:
            client.sendall(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return
        threading.Event().wait(0.05)
    pytest.fail("the daemon still listens")


@pytest.mark.usefixtures("control_socket")
def test_no_more_clients_are_served_than_there_are_places(tmp_path: Path, taker: OrderTaker) -> None:
    """With too many commands at once the others are told to try again. Commands under way end regularly."""
    taker.gate.clear()
    answers: list[list[Answer]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(talk(socket_path(tmp_path), encode_line(ORDER))))
        for _ in range(control._MAX_CLIENTS)
    ]
    for thread in threads:
        thread.start()
    while len(taker.orders) < len(threads):
        threading.Event().wait(0.005)
    (busy,) = talk(socket_path(tmp_path), encode_line(ORDER))
    assert isinstance(busy, Refused)
    assert busy.again
    taker.gate.set()
    for thread in threads:
        thread.join(30)
    assert answers == [[Done()]] * len(threads)


@pytest.mark.usefixtures("control_socket")
def test_an_order_that_fails_unforeseen_harms_no_other(tmp_path: Path, taker: OrderTaker) -> None:
    """After an order that failed later ones are carried out."""
    sent, taker.answers = taker.answers, (Unsendable(),)
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == []
    taker.answers = sent
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == [Done()]


def test_a_client_for_whom_no_thread_can_be_made_harms_no_other(
    tmp_path: Path, taker: OrderTaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no thread can be started for a moment, one command fails, and its place is free again."""
    serving = ControlSocket(tmp_path, taker)
    serving.start()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", _no_thread)
        for _ in range(control._MAX_CLIENTS + 1):
            # The daemon hangs up on it, before or after its order was sent.
            with contextlib.suppress(OSError):
                assert talk(socket_path(tmp_path), encode_line(ORDER)) == []
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == [Done()]
    serving.stop()


def _no_thread(**_options: object) -> NoReturn:
    raise RuntimeError("can't start new thread")


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path, taker: OrderTaker) -> None:
    """A killed daemon leaves its socket. The next one listens all the same, and removes the socket at its end."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(socket_path(tmp_path)))
    left.close()
    serving = ControlSocket(tmp_path, taker)
    serving.start()
    assert talk(socket_path(tmp_path), encode_line(ORDER)) == [Done()]
    serving.stop()
    assert not socket_path(tmp_path).exists()
    serving.stop()


def test_a_long_path_is_no_obstacle(tmp_path: Path, taker: OrderTaker) -> None:
    """The socket works even if the path of the state directory is too long for the kernel."""
    directory = tmp_path / ("d" * 120) / ("e" * 120)
    directory.mkdir(parents=True)
    serving = ControlSocket(directory, taker)
    serving.start()
    assert talk(socket_path(directory), encode_line(ORDER)) == [Done()]
    serving.stop()


@pytest.mark.parametrize("order", [ORDER, PauseAll(), ResumeOnly(("ann\n\x1b[2J", "\u202e"))])
def test_a_message_is_one_line(order: Order) -> None:
    """No user's name can end a message and start another one."""
    line = encode_line(order)
    assert line.count(b"\n") == 1
    assert decode_order(line) == order
