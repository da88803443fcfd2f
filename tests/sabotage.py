"""Faults in the threads of a running process: any of them can be made to raise an exception, or to hang.

A thread of the process itself carries the faults out. The test gives it orders over a Unix socket. A fault strikes
wherever the other thread just is, by Python's own means for asynchronous exceptions.
"""

import contextlib
import ctypes
import importlib
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.waiting import PATIENCE_SECONDS, eventually

VARIABLE: Final = "TESTS_SABOTAGE"
"""The environment variable of daemons in system tests; `listen` takes its value."""

NAME: Final = "saboteur"
"""The name of the thread that carries the faults out."""

_STEP_SECONDS: Final = 0.02


class Sabotage(BaseException):
    """What a test raises in a thread."""


class Hang(BaseException):
    """What makes a thread hang: it never comes to be, because its construction does not end."""

    def __init__(self) -> None:
        threading.Event().wait()


_FAULTS: Final = {"raise": Sabotage, "hang": Hang}


Constants = Sequence[tuple[str, str, float]]
"""Constants of modules, such as time limits: the module, the name, and the value for a test."""


def orders(path: Path, constants: Constants) -> str:
    """Return the text for `listen`."""
    return json.dumps([str(path), constants])


def listen(text: str) -> None:
    """Set constants in this process, before its program begins, and obey the test from now on."""
    path, constants = json.loads(text)
    for module, name, value in constants:
        there = importlib.import_module(module)
        assert hasattr(there, name), f"{module} has no {name} any more"
        setattr(there, name, value)
    _wait_in_steps()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen()
    threading.Thread(target=_obey, args=(listening,), name=NAME, daemon=True).start()


def _wait_in_steps() -> None:
    """Let waiting threads return to Python now and then, because an exception strikes only there."""
    wait = threading.Condition.wait

    def wait_in_steps(condition: threading.Condition, timeout: float | None = None) -> bool:
        ends = float("inf") if timeout is None else time.monotonic() + timeout
        while not wait(condition, max(0.0, min(_STEP_SECONDS, ends - time.monotonic()))):
            if time.monotonic() >= ends:
                return False
        return True

    setattr(threading.Condition, "wait", wait_in_steps)  # noqa: B010 - a method for everybody else


def _obey(listening: socket.socket) -> None:
    while True:
        client, _ = listening.accept()
        with client, client.makefile("rw") as lines, contextlib.suppress(OSError):
            order = json.loads(lines.readline())
            lines.write(json.dumps(_carry_out(order)) + "\n")


def _carry_out(order: Mapping[str, Any]) -> object:
    threads = {each.name: each.ident for each in threading.enumerate()}
    if order["do"] == "list":
        return sorted(threads)
    struck = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(threads[order["thread"]] or 0), ctypes.py_object(_FAULTS[order["do"]])
    )
    return struck == 1


class Saboteur:
    """The test's side."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def threads(self) -> list[str]:
        """Return the names of all threads but the saboteur's."""
        found: list[str] = self._order({"do": "list"})
        return [each for each in found if each != NAME]

    def let_fail(self, thread: str) -> None:
        """Raise an exception in a thread."""
        assert self._order({"do": "raise", "thread": thread})

    def let_hang(self, thread: str) -> None:
        """Let a thread hang."""
        assert self._order({"do": "hang", "thread": thread})

    def _order(self, order: Mapping[str, object]) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE_SECONDS)
            eventually(self._path.exists, "the saboteur is there")
            sock.connect(str(self._path))
            with sock.makefile("rw") as lines:
                lines.write(json.dumps(order) + "\n")
                lines.flush()
                return json.loads(lines.readline())


def is_lasting(thread: str) -> bool:
    """Say whether a thread lasts: no request, no client, no look-up, no timer, and not the main thread."""
    return thread != "MainThread" and not thread.startswith(("Thread-", "control-client", "http-client", "lookup"))
