"""The output that all commands share: lines on standard error, one JSON document on standard output, and errors.

Names and the words of servers are written so that they cannot steer a terminal. With `--json` a command that fails
prints an object too, so that a script never has to read a sentence.
"""

import errno
import io
import os
import select
import sys
import threading
from contextlib import suppress
from typing import Any, Final

import msgspec

from peruserd.core.common.escaping import as_json_text, harmless

# The output cannot be written, for a reason that can pass.
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

# Set once the one JSON document is printed, so that a command that is interrupted right then prints no second one.
_answered: Final = threading.Event()


class CommandError(Exception):
    """The end of a command that has no answer: `code` is its exit code, `kind` a word for scripts.

    `problems` are sentences for people, the first of which says what went wrong.
    """

    def __init__(self, code: int, kind: str, *problems: str) -> None:
        super().__init__(*problems)
        self.code = code
        self.kind = kind
        self.problems = problems


class OutputError(Exception):
    """Standard output that cannot be written. It is no OSError, so that nobody takes it for trouble with a file.

    `is_quiet` says that nobody reads it any more, which is no failure worth a word (`peruserd config | head`).
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror}")
        self.is_quiet = error.errno == errno.EPIPE
        self.is_passing = error.errno in _PASSING


class _Descriptor(io.FileIO):
    """Standard output: it raises OutputError, and waits where it does not take more just now."""

    def write(self, data: Any, /) -> int:
        """Write what fits; return how many bytes that were."""
        try:
            while (written := super().write(data)) is None:
                # Another program has made this pipe or terminal one that does not block.
                select.select((), (self,), ())
        except OSError as error:
            raise OutputError(error) from error
        return written


class Failure(msgspec.Struct, frozen=True):
    """The JSON object of a command that has no answer; `error` and `reason` are named as CouchDB names them."""

    error: str
    reason: str
    exit_code: int
    done: bool = False


def say(words: str) -> None:
    """Print a line for people on standard error."""
    say_as_it_is(f"peruserd: {harmless(words)}\n")


def say_as_it_is(text: str) -> None:
    """Print text of our own on standard error.

    Standard error that cannot be written, such as a log on a full disk, must keep no command from its work and answer.
    """
    with suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Print a value as one line of JSON. Bytes of a command line that are no UTF-8 are written out."""
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    print(encoded.decode())
    _answered.set()


def fail(error: CommandError, *, as_json: bool) -> int:
    """Say why a command has no answer, and return its exit code."""
    for problem in error.problems:
        say(problem)
    if as_json and not _answered.is_set():
        try:
            print_json(Failure(error.kind, "; ".join(error.problems), error.code))
            sys.stdout.flush()
        except OutputError as trouble:
            # The exit code says more of what was asked for.
            give_up(trouble)
    return error.code


def give_up(trouble: OutputError) -> None:
    """Write no more to standard output, and say why, unless its reader has just seen enough."""
    discard()
    if not trouble.is_quiet:
        say(str(trouble))


def told_beside(error: CommandError | None) -> dict[str, object]:
    """Return what the JSON of a command that did a part of its work says of the error that ended it."""
    if error is None:
        return {}
    return {"error": error.kind, "reason": "; ".join(error.problems), "exit_code": error.code}


def prepare() -> None:
    """Make standard output and standard error usable, whatever the command was started with.

    A descriptor that was closed would be the next file's that is opened. A character that the terminal's encoding does
    not have is written out.
    """
    _answered.clear()
    _guard_output()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest number that is free is that one.
            opened = open(os.devnull, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
            # Listeners are processes of their own, and need these descriptors as much.
            os.set_inheritable(opened.fileno(), True)  # noqa: FBT003 - the standard library's name for it
            setattr(sys, name, opened)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _guard_output() -> None:
    """Let standard output raise OutputError; what has been put in its place is left alone."""
    plain = sys.stdout
    if plain is None or plain is not sys.__stdout__ or not isinstance(plain, io.TextIOWrapper):
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(plain.fileno(), "w", closefd=False)),
        encoding=plain.encoding,
        errors=plain.errors,
        line_buffering=plain.line_buffering or plain.write_through,
    )


def discard() -> None:
    """Write no more to standard output, which takes nothing; Python would try to once more at its end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return as_json_text(value)
        case dict():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case _:
            return value
