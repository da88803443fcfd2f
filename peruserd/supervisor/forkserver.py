"""The fork server: the process that listeners are forked from, so that what they import is imported once.

`multiprocess` runs it: starts it where it is not running, which includes after its end, and reaps what it forked.
It lives until neither the supervisor nor a listener is left: all of them hold the end of a pipe that it watches. Its
own end takes no listener with it; only their exit codes are lost then. A fork server that
hangs is killed, so that the supervisor's loop goes on with an error instead of waiting for it.
"""

import contextlib
import errno
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any, Final

import multiprocess
import structlog
from multiprocess import forkserver

from peruserd.listener.process import PRELOAD

# Named, because the default differs between versions; `fork` would copy the supervisor's threads' locks as they are.
CONTEXT: Final = multiprocess.get_context("forkserver")
CONTEXT.set_forkserver_preload([PRELOAD])

EXIT_CODE_LOST: Final = 255
"""The exit code that `multiprocess` gives for a process whose fork server ended first."""

# It answers within milliseconds, or a second where it has yet to import. Below the 30 s after which the supervisor's
# loop is taken to hang itself.
_MAX_WAIT_SECONDS: Final = 20.0

DIRECTORY: Final = "forkserver"
"""The directory, in the state directory, of the fork server's address."""

# The path of a Unix socket has 107 bytes at most, and `multiprocess` adds /listener- and 8 letters.
_MAX_PATH_BYTES: Final = 107 - len("/listener-12345678")

log = structlog.get_logger(__name__)


def begin(state_directory: Path) -> None:
    """Start it, if it does not run yet, and do not wait for its imports; the first `start` does.

    Its address is a socket below the state directory, which has one holder at a time. So what a supervisor left that
    was killed is cleared by the next one.
    """
    _settle(state_directory / DIRECTORY)
    _pass_over_working_directory()
    try:
        forkserver.ensure_running()
    except OSError as error:
        log.warning("fork server cannot be started yet", error=str(error))


def start(process: Any) -> None:
    """Start a process of CONTEXT's; raises OSError where that fails.

    A start that fails in the middle can have made the process all the same. It ends at once: the pipe that stands for
    its parent is closed.
    """
    before = _pid()
    _pass_over_working_directory()
    watch = threading.Timer(_MAX_WAIT_SECONDS, _kill_hung)
    watch.daemon = True
    try:
        watch.start()
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, str(error)) from error
    try:
        process.start()
    except EOFError as error:
        raise ConnectionResetError(errno.ECONNRESET, "the fork server ended") from error
    except FileNotFoundError:
        _move()
        raise
    finally:
        watch.cancel()
    if before not in (None, _pid()):
        log.warning("fork server had ended and was started again", pid=_pid())


def join(process: Any) -> int:
    """Return the exit code of a process that is gone; negative: the signal."""
    process.join(_MAX_WAIT_SECONDS)
    if process.exitcode is None:
        _kill_hung()
        process.join()
    return int(process.exitcode)


def _pass_over_working_directory() -> None:
    """Let Python import nothing from the working directory, where anybody may have put a module.

    `multiprocess` runs the fork server by `python -c`, which looks there before all other places.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


def _settle(directory: Path) -> None:
    if len(os.fsencode(directory)) > _MAX_PATH_BYTES:
        # Then `multiprocess` makes a directory of its own below TMPDIR, and a killed supervisor leaves it there.
        log.debug("state directory has too long a path for the fork server's address", directory=str(directory))
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
    except OSError as error:
        log.warning("fork server has its address elsewhere", error=str(error))
        return
    multiprocess.current_process()._config["tempdir"] = str(directory)  # noqa: SLF001 - there is no other way


def _move() -> None:
    """Let the next one have another address: somebody cleaned the temporary directory up, and this one's is gone."""
    _kill()
    multiprocess.current_process()._config["tempdir"] = None  # noqa: SLF001 - there is no other way to have a new one


def _kill_hung() -> None:
    log.error("fork server does not answer and is killed", pid=_pid())
    _kill()


def _kill() -> None:
    pid = _pid()
    if pid is not None:
        # Nobody else has this id: `multiprocess` reaps it only when it starts the next one.
        os.kill(pid, signal.SIGKILL)


def _pid() -> int | None:
    pid: int | None = forkserver._forkserver._forkserver_pid  # noqa: SLF001 - there is no public name for it
    return pid
