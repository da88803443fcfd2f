"""The messages between a command and a running daemon, over the control socket.

Each message is one line of JSON. A command sends one order. The daemon answers with any number of lines, and the last
one says how the order ended.
"""

from pathlib import Path
from typing import Final

import msgspec

from peruserd.core.deletions.journal import Word
from peruserd.core.users.inquiries import KeptUser, QuarantineAction

SOCKET_NAME: Final = "control.sock"
"""The socket's name in the state directory."""

MAX_BYTES: Final = 1 << 20
"""The limit of one order. An order with more users than fit is sent in parts."""

MAX_ANSWER_BYTES: Final = 4 << 20
"""The limit of one answer. The longest one is a status."""

MAX_USERS: Final = 1_000
"""The limit of users in one order."""


class Say(msgspec.Struct, frozen=True, tag="say", forbid_unknown_fields=True):
    """Write the operator's word on the waiting entries of these users."""

    word: Word
    users: tuple[str, ...]


class PauseAll(msgspec.Struct, frozen=True, tag="pause", forbid_unknown_fields=True):
    """Pause all drops, in the whole cluster."""


class ResumeAll(msgspec.Struct, frozen=True, tag="resume", forbid_unknown_fields=True):
    """End the pause of all drops. Drops made so far do not count for the breaker any more."""


class ResumeOnly(msgspec.Struct, frozen=True, tag="resume-only", forbid_unknown_fields=True):
    """Let the waiting entries of these users pass the pause. The pause stays for all others."""

    users: tuple[str, ...]


class LookAt(msgspec.Struct, frozen=True, tag="look-at", forbid_unknown_fields=True):
    """Look at these users now, whoever owns them, and repair what is wrong."""

    users: tuple[str, ...]


class Quarantine(msgspec.Struct, frozen=True, tag="quarantine", forbid_unknown_fields=True):
    """List users in quarantine, try them now, or remove them: these `users`, one `kind`, or all if neither is given."""

    action: QuarantineAction = msgspec.field(name="wish")
    users: tuple[str, ...] = ()
    kind: str | None = None


class Reload(msgspec.Struct, frozen=True, tag="reload", forbid_unknown_fields=True):
    """Read the configuration again, and take over what can be changed while the daemon runs."""


class AskStatus(msgspec.Struct, frozen=True, tag="status", forbid_unknown_fields=True):
    """Say all that the instance does, and what troubles it."""


class RestartListener(msgspec.Struct, frozen=True, tag="restart-listener", forbid_unknown_fields=True):
    """Start the listener of a copy again. `listener` names its copy or its range.

    With `waits` the order is done once the new process reads the copy.
    """

    listener: str
    waits: bool = True


class Drain(msgspec.Struct, frozen=True, tag="drain", forbid_unknown_fields=True):
    """Give up all documents to the other instances, or with `undo` take them back.

    Without another instance the order is refused, or with `force` noted until there is one. With `waits` it is done
    once the others act.
    """

    undo: bool = False
    force: bool = False
    waits: bool = True


DeletionOrder = Say | PauseAll | ResumeAll | ResumeOnly
Order = DeletionOrder | LookAt | Quarantine | Reload | AskStatus | RestartListener | Drain


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """The progress of an order: `done` of `total` users."""

    done: int
    total: int


class Noted(msgspec.Struct, frozen=True, tag="noted"):
    """The operator's word was written on one entry."""

    user: str
    entry: str
    database: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """No entry waits for this user, or none of the kind that the word is about."""

    user: str
    why: str


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A user in quarantine, as the copy's listener had the entry before the order was carried out."""

    user: str
    listener: str
    kept: KeptUser


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """The configuration was read again. Each field has the changed keys with one effect.

    - `at_once`: the new value is in force.
    - `listeners`: the new value comes into force as the listeners start again, one after the other.
    - `kept`: the old value stays in force until the daemon is started again.
    """

    at_once: tuple[str, ...]
    listeners: tuple[str, ...]
    kept: tuple[str, ...]


class StatusIs(msgspec.Struct, frozen=True, tag="status-is"):
    """The status, as JSON of `core.processes.status.Status`."""

    status: msgspec.Raw


class Restarting(msgspec.Struct, frozen=True, tag="restarting"):
    """The listener of this copy was told to start again."""

    copy: str


class Mistaken(msgspec.Struct, frozen=True, tag="mistaken"):
    """The configuration was refused, and the one before stays in force. `problems` are sentences."""

    problems: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The order was carried out. `notice` tells the operator what else to know."""

    notice: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The order was not carried out, or only in part. `again` says that a later try may help."""

    why: str
    again: bool = True


Answer = Progress | Noted | Unknown | Found | Reloaded | StatusIs | Restarting | Mistaken | Done | Refused

_ENCODER: Final = msgspec.json.Encoder()
_ORDERS: Final = msgspec.json.Decoder(Order)
_ANSWERS: Final = msgspec.json.Decoder(Answer)

decode_order = _ORDERS.decode
decode_answer = _ANSWERS.decode


def encode_line(message: Order | Answer) -> bytes:
    """Return a message as it is sent over the socket."""
    return _ENCODER.encode(message) + b"\n"


def socket_path(state_directory: Path) -> Path:
    """Return the path of the control socket of the daemon with this state directory."""
    return state_directory / SOCKET_NAME
