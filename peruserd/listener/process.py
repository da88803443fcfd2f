"""The listener as a process: its start by the supervisor, its state file, and its exit code."""

import os
import sys
from pathlib import Path
from typing import Final

import structlog
from multiprocess import forkserver
from multiprocess.connection import Connection

from peruserd import dumps, logs, threads, tracebacks
from peruserd.core.processes.messages import ListenerStart, decode_start
from peruserd.core.processes.shortages import is_shortage
from peruserd.listener.disk import Disk
from peruserd.listener.exit_codes import Exit
from peruserd.listener.listener import Listener
from peruserd.listener.store import Store, StoreError
from peruserd.listener.wakeup import die_with_parent

PRELOAD: Final = "peruserd.listener.preload"
"""The module with all imports of a listener, which the fork server is told to import."""

# A file of a full quarantine takes a second or two. The supervisor waits a minute for a start.
_OPEN_SECONDS: Final = 40.0

log = structlog.get_logger(__name__)


def main(start: bytes, pipe: Connection) -> None:
    """Run one listener: the target of the child process. `start` is an encoded ListenerStart."""
    tracebacks.enable()
    forbidden = dumps.forbid()
    message = decode_start(start)
    logs.configure(message.log, message.databases.prefix, instance=message.instance, listener=str(message.copy))
    threads.log_uncaught()
    if forbidden is not None:
        log.warning("core dumps of this process cannot be forbidden", error=forbidden)
    if forkserver.get_inherited_fds() is not None and PRELOAD not in sys.modules:
        # `multiprocess` ignores an import that fails, and logs nothing.
        log.warning("the fork server could not import the listener's code: starts are slow, and no memory is shared")
    die_with_parent(Exit.FAULT)
    try:
        code = _run(message, pipe)
    except Exception as error:
        # `multiprocess` would write the traceback itself, over several lines.
        log.exception("fault")
        code = Exit.AGAIN if is_shortage(error) else Exit.FAULT
    logs.say_rest()
    sys.exit(code)


def _run(start: ListenerStart, pipe: Connection) -> Exit:
    disk = Disk(on_error=lambda _error: os._exit(Exit.FAULT))
    disk.start()
    file = Path(start.state_file)
    try:
        store = disk.do(lambda: Store.open(file), _OPEN_SECONDS)
    except StoreError as error:
        log.error("cannot start", error=str(error))  # noqa: TRY400 - the sentence says it all
        return Exit.AGAIN
    if store is None:
        log.error("cannot start", error=f"{file} cannot be opened: the disk does not answer")
        return Exit.AGAIN
    try:
        return Listener(start, pipe, store, disk).run()
    finally:
        store.close()
