"""Commands that give orders to the running daemon share this: its control socket, and what keeps it from answering."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.parser import EXIT_LATER, EXIT_NOT_DONE
from peruserd.core import control
from peruserd.core.printing import shown
from peruserd.daemon.control import reachable

# Longer than the daemon needs for one user on a busy cluster, time-outs of a request included.
_PATIENCE_SECONDS: Final = 120.0


class NotTakenError(Exception):
    """An order that no daemon has taken; `code` is the command's exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def answers(directory: Path, order: control.Order) -> Iterator[control.Answer]:
    """Yield the answers of the daemon with this state directory, until it has no more; raises NotTakenError."""
    try:
        yield from _answers(control.socket_path(directory), order)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise NotTakenError(
            f"no daemon runs here with the state directory {shown(str(directory))}; start it "
            "(systemctl start peruserd), or name its configuration with --config",
            EXIT_LATER,
        ) from error
    except PermissionError as error:
        why = "not permitted: run this as root, or as the account that peruserd runs as"
        raise NotTakenError(why, EXIT_NOT_DONE) from error
    except (OSError, msgspec.MsgspecError) as error:
        raise NotTakenError(f"the daemon does not answer: {error}; its log says more", EXIT_LATER) from error


def _answers(path: Path, order: control.Order) -> Iterator[control.Answer]:
    try:
        message = control.encode_line(order)
    except UnicodeEncodeError as error:
        raise msgspec.EncodeError(f"a user's name is no Unicode: {error}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        with reachable(path) as address:
            connection.connect(address)
        connection.sendall(message)
        with connection.makefile("rb") as lines:
            while line := lines.readline(control.MOST_BYTES):
                yield control.decode_answer(line)
