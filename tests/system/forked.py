"""`python -m peruserd` in a fork of a process with all imports, see `tests.forking`.

The program starts two processes of `multiprocess`: the fork server and its helper. They would import everything once
more, so each of the two is a fork as well. Both are forked before the program begins, and so know nothing of it.
"""

import atexit
import contextlib
import ctypes
import fcntl
import json
import os
import runpy
import signal
import socket
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from multiprocess import util

from tests import sabotage
from tests.forking import hurry

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_STANDARD: Final = (0, 1, 2)
_MAX_MESSAGE: Final = 1 << 20


def end_with_parent() -> None:
    """Let this process be killed when its parent ends, because nobody else would end it if pytest is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run(arguments: Sequence[str], environment: Mapping[str, str], directory: Path, output: Path) -> None:
    """Turn this newly forked process into `python -m peruserd` with these arguments, and run it."""
    os.setsid()
    end_with_parent()
    # One of them keeps the process alive from which all are forked.
    _close_others(_STANDARD)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(written, number)
    _close_others(_STANDARD)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    first = [str(directory), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:] = [*first, *(each for each in sys.path if each not in first)]
    sys.argv = ["peruserd", *arguments]
    hurry()
    _fork_helpers()
    if (orders := environment.get(sabotage.VARIABLE)) is not None:
        sabotage.listen(orders)
    try:
        runpy.run_module("peruserd", run_name="__main__", alter_sys=True)
    finally:
        # This is the order in which an interpreter ends.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()


class _Helper:
    """A process that waits for a command to run, and ends if none can come any more."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            _wait_for_work(theirs)
        theirs.close()

    def run(self, code: str, descriptors: Sequence[int]) -> None:
        with self._channel:
            socket.send_fds(self._channel, [json.dumps([code, descriptors]).encode()], descriptors)


def _fork_helpers() -> None:
    """Prepare two processes for the first two starts of `multiprocess`; later starts are new interpreters."""
    helpers = [_Helper(), _Helper()]
    anew = util.spawnv_passfds

    def spawn(path: bytes | str, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        if not helpers:
            started: int = anew(path, arguments, descriptors)
            return started
        helper = helpers.pop()
        helper.run(arguments[-1], sorted(map(int, descriptors)))
        return helper.pid

    util.spawnv_passfds = spawn


def _wait_for_work(channel: socket.socket) -> NoReturn:
    code = 1
    try:
        message, received, *_ = socket.recv_fds(channel, _MAX_MESSAGE, 8)
        if message:
            source, numbers = json.loads(message)
            # They are moved away first, because one may have the number that another one needs.
            free = 1 + max([*numbers, *received])
            moved = [fcntl.fcntl(each, fcntl.F_DUPFD, free) for each in received]
            for descriptor, number in zip(moved, numbers, strict=True):
                os.dup2(descriptor, number)
            _close_others([*_STANDARD, *numbers])
            _run_as_main(source)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0
    finally:
        os._exit(code)


def _run_as_main(source: str) -> None:
    main: Any = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = ["-c"]
    exec(source, vars(main))  # noqa: S102 - as `python -c` does, which this stands in for


def _close_others(kept: Sequence[int]) -> None:
    # The descriptor by which they are listed is closed once the list is complete.
    for number in sorted(int(each.name) for each in Path("/proc/self/fd").iterdir()):
        if number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)
