"""The messages between a command and a running daemon, over the control socket.

Each message is one line of JSON. A command sends one order, and the daemon answers with any number of lines, of which
the last one says how it ended.
"""

from pathlib import Path
from typing import Final

import msgspec

from peruserd.core.deletions.journal import Word
from peruserd.core.users.inquiries import KeptUser, Wish

SOCKET_NAME: Final = "control.sock"
"""The socket's name in the state directory."""

MAX_BYTES: Final = 1 << 20
"""How long one message may be; an order that names more users than fit is sent in parts."""

MAX_USERS: Final = 1_000
"""How many users one order may name."""


class Say(msgspec.Struct, frozen=True, tag="say", forbid_unknown_fields=True):
    """Write the operator's word on what waits for these users."""

    word: Word
    users: tuple[str, ...]


class PauseAll(msgspec.Struct, frozen=True, tag="pause", forbid_unknown_fields=True):
    """Let all drops wait, in the whole cluster."""


class ResumeAll(msgspec.Struct, frozen=True, tag="resume", forbid_unknown_fields=True):
    """Let drops go on; those made so far count for the breaker no more."""


class ResumeOnly(msgspec.Struct, frozen=True, tag="resume-only", forbid_unknown_fields=True):
    """Let what waits for these users pass the pause, which stays for all others."""

    users: tuple[str, ...]


class LookAt(msgspec.Struct, frozen=True, tag="look-at", forbid_unknown_fields=True):
    """Look at these users now, whoever owns them, and put right what is not."""

    users: tuple[str, ...]


class Quarantine(msgspec.Struct, frozen=True, tag="quarantine", forbid_unknown_fields=True):
    """List users in quarantine, try them now, or take them out: those named, of one kind, or all where neither is."""

    wish: Wish
    users: tuple[str, ...] = ()
    kind: str | None = None


DeletionOrder = Say | PauseAll | ResumeAll | ResumeOnly
Order = DeletionOrder | LookAt | Quarantine


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """So many of the users named have been seen to."""

    done: int
    total: int


class Noted(msgspec.Struct, frozen=True, tag="noted"):
    """A word was written on one entry."""

    user: str
    entry: str
    database: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """Nothing waits for this user, or nothing of the kind that the word is about."""

    user: str
    why: str


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A user in quarantine, as the listener of the copy has it, and had it before what was ordered was done."""

    user: str
    listener: str
    kept: KeptUser


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The order was carried out; `notice` is what the operator should know beside it."""

    notice: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The order was not carried out, or not to its end. `again` says that it may help to try later."""

    why: str
    again: bool = True


Answer = Progress | Noted | Unknown | Found | Done | Refused

_ENCODER: Final = msgspec.json.Encoder()
_ORDERS: Final = msgspec.json.Decoder(Order)
_ANSWERS: Final = msgspec.json.Decoder(Answer)

decode_order = _ORDERS.decode
decode_answer = _ANSWERS.decode


def encode_line(message: Order | Answer) -> bytes:
    """Return a message as it goes over the socket."""
    return _ENCODER.encode(message) + b"\n"


def socket_path(state_directory: Path) -> Path:
    """Return where the socket of the daemon with this state directory is."""
    return state_directory / SOCKET_NAME
