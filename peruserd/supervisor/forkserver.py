"""The fork server: listeners are forked from this process, so modules are imported only once.

`multiprocess` runs it:

- `multiprocess` starts the fork server if it does not run, also after it has ended. The fork server reaps its children.
- The fork server lives until the supervisor and all listeners have ended. It watches a pipe, whose other end they all
  hold.
- When the fork server ends, listeners go on; only their exit codes are lost.
- A fork server that hangs is killed. The supervisor's loop then gets an error instead of waiting.
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

# The method is named, because the default differs between versions of Python. The method `fork` would also copy locks
# in the state in which other threads hold them.
CONTEXT: Final = multiprocess.get_context("forkserver")
CONTEXT.set_forkserver_preload([PRELOAD])

EXIT_CODE_LOST: Final = 255
"""The exit code that `multiprocess` reports if the fork server ended before the process."""

# A fork server answers within milliseconds, or a second if it must still import modules. The limit is below 30 s, after
# which the supervisor's own loop would be taken to hang.
_MAX_WAIT_SECONDS: Final = 20.0

DIRECTORY: Final = "forkserver"
"""The directory, in the state directory, of the fork server's address."""

# The path of a Unix socket has 107 bytes at most, and `multiprocess` adds `/listener-` and 8 letters.
_MAX_PATH_BYTES: Final = 107 - len("/listener-12345678")

log = structlog.get_logger(__name__)


def begin(state_directory: Path) -> None:
    """Start the fork server if it does not run yet. Only the first `start` waits for its imports.

    Its address is a socket below the state directory. Only one supervisor at a time holds that directory, so it may
    remove what a killed predecessor left there.
    """
    _settle(state_directory / DIRECTORY)
    _pass_over_working_directory()
    try:
        forkserver.ensure_running()
    except OSError as error:
        log.warning("fork server cannot be started yet", error=str(error))


def start(process: Any) -> None:
    """Start a process of CONTEXT; raises OSError if that fails.

    A start that fails in the middle may have made the process. That process ends at once, because the pipe to its
    parent is closed.
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
    """Return the exit code of a process that has ended; a negative one is the signal that ended it."""
    process.join(_MAX_WAIT_SECONDS)
    if process.exitcode is None:
        _kill_hung()
        process.join()
    return int(process.exitcode)


def _pass_over_working_directory() -> None:
    """Let Python import nothing from the working directory, because others may have put modules there.

    `multiprocess` runs the fork server by `python -c`, which looks there before all other places.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


def _settle(directory: Path) -> None:
    if len(os.fsencode(directory)) > _MAX_PATH_BYTES:
        # In this case `multiprocess` makes its own directory below TMPDIR, and a killed supervisor leaves it there.
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
    """Give the next fork server another address: somebody has cleaned up the temporary directory with this one's."""
    _kill()
    multiprocess.current_process()._config["tempdir"] = None  # noqa: SLF001 - there is no other way to have a new one


def _kill_hung() -> None:
    log.error("fork server does not answer and is killed", pid=_pid())
    _kill()


def _kill() -> None:
    pid = _pid()
    if pid is not None:
        # The id still belongs to the fork server: `multiprocess` reaps it only when it starts the next one.
        os.kill(pid, signal.SIGKILL)


def _pid() -> int | None:
    pid: int | None = forkserver._forkserver._forkserver_pid  # noqa: SLF001 - there is no public name for it
    return pid
