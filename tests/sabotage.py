"""Faults in the threads of a running process: any of them can be made to raise an exception, or to hang.

Functions can be held up as well, so that whoever calls them waits, as for a disk that hangs.

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

    hanging: Final[set[str]] = set()

    def __init__(self) -> None:
        self.hanging.add(threading.current_thread().name)
        threading.Event().wait()


_FAULTS: Final = {"raise": Sabotage, "hang": Hang, "starve": MemoryError}


Constants = Sequence[tuple[str, str, float]]
"""Constants of modules, such as time limits: the module, the name, and the value for a test."""


def orders(path: Path, constants: Constants, holds: Sequence[str] = ()) -> str:
    """Return the text for `listen`. The functions `holds` are held up from the beginning, as by `Saboteur.hold`."""
    return json.dumps([str(path), constants, list(holds)])


def listen(text: str) -> None:
    """Set constants in this process, before its program begins, and obey the test from now on."""
    path, constants, holds = json.loads(text)
    for module, name, value in constants:
        there = importlib.import_module(module)
        assert hasattr(there, name), f"{module} has no {name} any more"
        setattr(there, name, value)
    for each in holds:
        _hold(each)
    _wait_in_steps()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen()
    threading.Thread(target=_obey, args=(listening,), name=NAME, daemon=True).start()


def _wait_in_steps() -> None:
    """Let waiting threads return to Python now and then, because an exception strikes only there.

    Each wait has one place in the queue of its condition, as in the standard library. A wait that begins anew for each
    step can miss a notification between two steps.
    """

    def wait_in_steps(condition: Any, timeout: float | None = None) -> bool:
        ends = float("inf") if timeout is None else time.monotonic() + timeout
        waiter = threading.Lock()
        waiter.acquire()
        condition._waiters.append(waiter)
        saved = condition._release_save()
        is_notified = False
        try:
            while not is_notified and (left := ends - time.monotonic()) > 0:
                is_notified = waiter.acquire(timeout=min(_STEP_SECONDS, left))
            return is_notified
        finally:
            condition._acquire_restore(saved)
            if not is_notified:
                with contextlib.suppress(ValueError):
                    condition._waiters.remove(waiter)

    setattr(threading.Condition, "wait", wait_in_steps)  # noqa: B010 - a method for everybody else


# Set once whoever is held up may go on.
_may_go_on: Final = threading.Event()


def _hold(function: str) -> bool:
    """Let all calls of a function or a method wait; its name is that of the module, a colon, and its own."""
    module, _, name = function.partition(":")
    *owners, last = name.split(".")
    owner = importlib.import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    original = getattr(owner, last)

    def held_up(*arguments: object, **named: object) -> object:
        _may_go_on.wait()
        return original(*arguments, **named)

    setattr(owner, last, held_up)
    return True


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
    if order["do"] == "hang" and order["thread"] in Hang.hanging:
        return True
    if order["do"] == "hold":
        return _hold(order["function"])
    if order["do"] == "let go":
        _may_go_on.set()
        return True
    struck = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(threads[order["thread"]] or 0), ctypes.py_object(_FAULTS[order["do"]])
    )
    return struck == 1 and order["do"] != "hang"


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

    def let_starve(self, thread: str) -> None:
        """Let a thread find no memory."""
        assert self._order({"do": "starve", "thread": thread})

    def let_hang(self, thread: str) -> None:
        """Let a thread hang, and return when it does.

        Python drops an exception that strikes in a finalizer or a callback, so one may not be enough.
        """
        eventually(lambda: self._order({"do": "hang", "thread": thread}), f"the thread {thread} hangs")

    def hold(self, function: str) -> None:
        """Let whoever calls a function wait from now on, as in `peruserd.listener.store:Store.save`."""
        assert self._order({"do": "hold", "function": function})

    def let_go(self) -> None:
        """Let all who wait go on, for good."""
        assert self._order({"do": "let go"})

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
