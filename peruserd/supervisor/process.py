"""A listener's process as the supervisor sees it: its pipe, its pidfd and its signals.

Only the pidfd says reliably that a process has ended. The sentinel of `multiprocess` is a pipe, and a grandchild can
hold it open. Only `multiprocess` itself may reap a child (no `waitpid(-1)`, no `psutil.Process.wait`), because
otherwise the exit status is lost.
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

# A busy listener reads its pipe far sooner. The limit is also far below the time that the loop may be silent.
_MAX_SEND_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class ListenerProcess:
    """One listener process, running or just ended; the constructor raises OSError if it cannot be started."""

    def __init__(self, start: ListenerStart) -> None:
        self._pipe, theirs = forkserver.CONTEXT.Pipe(duplex=True)
        _limit_sending(self._pipe.fileno())
        # The flag `daemon` lets the supervisor exit without waiting. Its exit then ends this child.
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
        """Say whether the child has closed its end of the pipe, so that no message can come any more."""
        return self._at_eof

    def send(self, message: ToListener) -> None:
        """Send a message. If the child has ended, the message is dropped, and the pidfd soon becomes readable.

        A child that does not read its pipe is killed. The supervisor's loop must not wait for it, and its next read
        could return half of a message.
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
        """Send a signal through the pidfd, so it cannot reach a later process with the same id."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def reap(self) -> int:
        """Release a process whose pidfd is readable; return its exit code, which is negative after a signal."""
        code = self._collect()
        os.close(self.pidfd)
        return code

    def _open_pidfd(self) -> int:
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            # It ended at once. The fork server is its parent and has reaped it already.
            self._collect()
            raise
        except OSError:
            # Descriptors may be used up. Without a pidfd its end would not be noticed.
            self._process.kill()
            self._collect()
            raise

    def _collect(self) -> int:
        code = forkserver.join(self._process)
        self._pipe.close()
        self._process.close()
        return code


def _limit_sending(descriptor: int) -> None:
    """Limit the time that a write may wait; after it the write fails with EAGAIN. The pipe is a pair of sockets."""
    seconds = int(_MAX_SEND_SECONDS)
    limit = struct.pack("@ll", seconds, int((_MAX_SEND_SECONDS - seconds) * 1_000_000))
    with socket.socket(fileno=os.dup(descriptor)) as pipe:
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
