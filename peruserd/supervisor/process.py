"""A listener's process as the supervisor holds it: its pipe, its pidfd, its signals.

The pidfd alone says that a process is gone: the sentinel is a pipe, which a grandchild can hold open. Nothing here or
elsewhere may reap a child but `multiprocess` itself (no `waitpid(-1)`, no `psutil.Process.wait`): its status would be
lost.
"""

import contextlib
import os
import signal
import socket
import struct
from typing import Any, Final

import structlog

from peruserd.core.processes.messages import FromListener, ListenerStart, ToListener, decode_from_listener, encode
from peruserd.listener.process import main
from peruserd.supervisor import forkserver

# Far more than a listener needs that is busy, and far less than the loop may be silent.
_MAX_SEND_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class ListenerProcess:
    """One running (or just ended) listener process; making one raises OSError where it cannot be started."""

    def __init__(self, start: ListenerStart) -> None:
        self._pipe, theirs = forkserver.CONTEXT.Pipe(duplex=True)
        _limit_sending(self._pipe.fileno())
        # A daemon in multiprocess' sense: should the supervisor fail, its exit ends the child and does not wait for it.
        self._process: Any = forkserver.CONTEXT.Process(
            target=main, args=(encode(start), theirs), name=str(start.copy), daemon=True
        )
        try:
            forkserver.start(self._process)
        except OSError:
            self._pipe.close()
            raise
        finally:
            theirs.close()
        self.pid: int = self._process.pid
        self.pidfd: int = self._open_pidfd()
        self._at_eof = False

    @property
    def pipe_fd(self) -> int:
        """Return the descriptor to wait on for messages."""
        return int(self._pipe.fileno())

    @property
    def at_eof(self) -> bool:
        """Say whether the child closed its end of the pipe: no message can come any more."""
        return self._at_eof

    def send(self, message: ToListener) -> None:
        """Send a message; one to a child that is gone is dropped, its pidfd says so soon.

        A child that takes nothing off its pipe is killed. The supervisor's loop must not wait for it, and what it would
        read next may be half of a message.
        """
        try:
            self._pipe.send_bytes(encode(message))
        except BlockingIOError:
            log.warning("listener takes no message and is killed", pid=self.pid)
            self.signal(signal.SIGKILL)
        except OSError:
            return

    def receive(self) -> list[FromListener]:
        """Return the messages that have arrived."""
        messages = []
        try:
            while self._pipe.poll():
                messages.append(decode_from_listener(self._pipe.recv_bytes()))
        except (EOFError, OSError):
            self._at_eof = True
        return messages

    def signal(self, number: signal.Signals) -> None:
        """Send a signal through the pidfd, which cannot hit a process that has since been given the same id."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Return the exit code of a process whose pidfd became readable (negative: the signal), and close all of it."""
        code = self._collect()
        os.close(self.pidfd)
        return code

    def _open_pidfd(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            # It ended at once, and the fork server, whose child it is, has reaped it already.
            self._collect()
            raise
        except OSError:
            # No descriptor left, for one: nobody could tell when it ends.
            self._process.kill()
            self._collect()
            raise

    def _collect(self) -> int:
        code = forkserver.join(self._process)
        self._pipe.close()
        self._process.close()
        return code


def _limit_sending(descriptor: int) -> None:
    """Let no write to a pipe of `multiprocess`, which is a pair of sockets, wait for long; one that did has EAGAIN."""
    seconds = int(_MAX_SEND_SECONDS)
    limit = struct.pack("@ll", seconds, int((_MAX_SEND_SECONDS - seconds) * 1_000_000))
    with socket.socket(fileno=os.dup(descriptor)) as pipe:
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
