"""Parts shared by the commands that give orders to the running daemon: the control socket, and its errors."""

import argparse
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.output import CommandError, say
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.cli.progress import announce_if_slow
from peruserd.core.common.escaping import harmless, named, shown
from peruserd.core.common.names import advice_on_id, is_unicode
from peruserd.core.processes import control
from peruserd.daemon.control import reachable

# The longest wait for an answer. On a busy cluster the daemon needs less for one user, even with requests that time
# out.
_PATIENCE_SECONDS: Final = 120.0

# The longest wait for the daemon to accept a connection, which takes it milliseconds.
_TURN_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.05


class NotTakenError(CommandError):
    """An order that no daemon has taken."""


def refused(answer: control.Refused) -> NotTakenError:
    """Return the error of an order that the daemon refused."""
    return NotTakenError(EXIT_LATER if answer.again else EXIT_NOT_DONE, "refused_by_daemon", shown(answer.why))


def not_understood(answer: control.Answer) -> NotTakenError:
    """Return the error for an answer that does not belong to the order: the daemon is of another version."""
    why = f"the daemon answers with {type(answer).__name__}; it is of another version than this command"
    return NotTakenError(EXIT_NOT_DONE, "not_understood", why)


def nameable(users: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names that an order can hold, and those that are not valid Unicode."""
    known = list(users)
    return [each for each in known if is_unicode(each)], [each for each in known if not is_unicode(each)]


NO_UNICODE: Final = "the user name is not valid Unicode, and no user document can have it"


class OrderCommand(ABC):
    """Sends the orders of one command to the daemon with this state directory, until one is refused.

    One order holds a limited number of users, so many users need several orders.
    """

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self._directory = directory
        self._options = options
        self._users, self._nameless = nameable(options.users or [])
        self._code = EXIT_DONE
        self._unknown: list[dict[str, str]] = []
        self._error: CommandError | None = None

    @abstractmethod
    def _orders(self) -> Iterator[control.Order]:
        """Yield the orders."""

    @abstractmethod
    def _take(self, answer: control.Answer) -> None:
        """Take in an answer other than the last one of an order."""

    @abstractmethod
    def _print(self) -> None:
        """Print the result of all orders. Some may have been carried out before one was refused."""

    def run(self) -> int:
        """Send them; return the exit code."""
        for user in self._nameless:
            self._not_found(user, NO_UNICODE)
        try:
            for order in self._orders():
                self._send(order)
        except NotTakenError as error:
            self._error = error
            self._code = max(self._code, error.code)
            say(error.problems[0])
        self._print()
        return self._code

    @property
    def _parts(self) -> list[tuple[str, ...]]:
        most = control.MAX_USERS
        return [tuple(self._users[begin : begin + most]) for begin in range(0, len(self._users), most)]

    def _send(self, order: control.Order) -> None:
        for answer in ended(answers(self._directory, order)):
            if not isinstance(answer, control.Done):
                self._take(answer)

    def _not_found(self, user: str, why: str) -> None:
        advice = advice_on_id(user)
        self._unknown.append({"user": user, "reason": why, **({"hint": advice} if advice else {})})
        self._code = max(self._code, EXIT_NOT_DONE)
        say(f"{named(user)}: {shown(why)}" + (f"; {advice}" if advice else ""))


def given(directory: Path, order: control.Order) -> list[control.Answer]:
    """Give an order, and return the answers to it; raises NotTakenError if the daemon refuses it or does not end it."""
    return list(ended(answers(directory, order)))


def ended(said: Iterable[control.Answer]) -> Iterator[control.Answer]:
    """Yield the answers to one order up to the last one; raises NotTakenError as `given`. Notices are printed."""
    for answer in said:
        if isinstance(answer, control.Refused):
            raise refused(answer)
        if isinstance(answer, control.Done) and answer.notice:
            say(answer.notice)
        yield answer
        if isinstance(answer, control.Done | control.Mistaken):
            return
    raise NotTakenError(EXIT_LATER, "no_answer", "the daemon ended before it was done; what was done stays done")


def answers(directory: Path, order: control.Order) -> Iterator[control.Answer]:
    """Yield all answers of the daemon with this state directory; raises NotTakenError."""
    try:
        with announce_if_slow("waiting for the daemon"):
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
    except OSError as error:
        why = f"the daemon does not answer: {error}; its log says more"
        raise NotTakenError(EXIT_LATER, "no_answer", why) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = f"the daemon's answer is not understood: {error}; it is of another version than this command"
        raise NotTakenError(EXIT_NOT_DONE, "not_understood", harmless(why)) from error


def _answers(path: Path, order: control.Order) -> Iterator[control.Answer]:
    message = control.encode_line(order)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        with reachable(path) as address:
            _connect(connection, address)
        connection.sendall(message)
        with connection.makefile("rb") as lines:
            while line := lines.readline(control.MAX_ANSWER_BYTES):
                yield control.decode_answer(line)


def _connect(connection: socket.socket, address: str) -> None:
    """Connect, and wait where the daemon has not yet accepted those before; raises OSError."""
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            connection.connect(address)
        except BlockingIOError:
            # The kernel does not let a socket with a time-out wait for this.
            if time.monotonic() > deadline:
                raise TimeoutError("it accepts no connection") from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return
