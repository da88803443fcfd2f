"""Commands that give orders to the running daemon share this: its control socket, and what keeps it from answering."""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.output import CommandError
from peruserd.cli.parser import EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import told
from peruserd.core import control
from peruserd.core.names import is_unicode
from peruserd.core.printing import shown
from peruserd.daemon.control import reachable

# Longer than the daemon needs for one user on a busy cluster, time-outs of a request included.
_PATIENCE_SECONDS: Final = 120.0


class NotTakenError(CommandError):
    """An order that no daemon has taken."""


def refused(answer: control.Refused) -> NotTakenError:
    """Return the error of an order that the daemon refused."""
    return NotTakenError(EXIT_LATER if answer.again else EXIT_NOT_DONE, "refused_by_daemon", shown(answer.why))


def nameable(users: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names that an order can hold, and the others, whose bytes are no Unicode."""
    known = list(users)
    return [each for each in known if is_unicode(each)], [each for each in known if not is_unicode(each)]


NO_UNICODE: Final = "the user name is not valid Unicode, and no user document can have it"


def answers(directory: Path, order: control.Order) -> Iterator[control.Answer]:
    """Yield the answers of the daemon with this state directory, until it has no more; raises NotTakenError."""
    try:
        with told("waiting for the daemon"):
            yield from _answers(control.socket_path(directory), order)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        why = (
            f"no daemon runs here with the state directory {shown(str(directory))}; start it "
            "(systemctl start peruserd), or name its configuration with --config"
        )
        raise NotTakenError(EXIT_LATER, "no_daemon", why) from error
    except PermissionError as error:
        why = f"not permitted to use {shown(str(directory))}: run this as root, or as the account that peruserd runs as"
        raise NotTakenError(EXIT_NOT_DONE, "not_permitted", why) from error
    except (OSError, msgspec.MsgspecError) as error:
        why = f"the daemon does not answer: {error}; its log says more"
        raise NotTakenError(EXIT_LATER, "no_answer", why) from error


def _answers(path: Path, order: control.Order) -> Iterator[control.Answer]:
    message = control.encode_line(order)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        with reachable(path) as address:
            connection.connect(address)
        connection.sendall(message)
        with connection.makefile("rb") as lines:
            while line := lines.readline(control.MOST_BYTES):
                yield control.decode_answer(line)
