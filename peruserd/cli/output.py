"""The output of all commands: lines on standard error, one JSON document on standard output, and errors.

Control characters in names and in answers of servers are escaped, so that they cannot control a terminal. With `--json`
a failing command prints an object too, so a script never has to read a sentence.
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

from peruserd.core.common.escaping import as_json_text, calm_json, harmless

PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Reasons that can pass by themselves why output cannot be written."""

# Set once the JSON document is printed, so that a command prints no second one if it is interrupted just then.
_answered: Final = threading.Event()


class CommandError(Exception):
    """The end of a command without an answer: `code` is its exit code, `kind` a word for scripts.

    `problems` are sentences for people; the first one says what went wrong.
    """

    def __init__(self, code: int, kind: str, *problems: str) -> None:
        super().__init__(*problems)
        self.code = code
        self.kind = kind
        self.problems = problems


class OutputError(Exception):
    """Standard output cannot be written. This is not an OSError, so that nobody mistakes it for trouble with a file.

    `is_quiet` says that nobody reads the output any more, as in `peruserd config | head`. That is no failure to report.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror}")
        self.is_quiet = error.errno == errno.EPIPE
        self.is_passing = error.errno in PASSING


class _Descriptor(io.FileIO):
    """Standard output that raises OutputError, and waits while it accepts no more bytes."""

    def write(self, data: Any, /) -> int:
        """Write as much as fits; return the number of bytes."""
        try:
            while (written := super().write(data)) is None:
                # Another program has set this pipe or terminal to non-blocking.
                select.select((), (self,), ())
        except OSError as error:
            raise OutputError(error) from error
        return written


class Failure(msgspec.Struct, frozen=True):
    """The JSON object of a command without an answer; `error` and `reason` are CouchDB's own field names."""

    error: str
    reason: str
    exit_code: int
    done: bool = False


def failure_of(error: CommandError) -> Failure:
    """Return the JSON object of an error."""
    return Failure(error.kind, "; ".join(error.problems), error.code)


def say(words: str) -> None:
    """Print a line for people on standard error."""
    say_as_it_is(f"peruserd: {harmless(words)}\n")


def say_as_it_is(text: str) -> None:
    """Print text of our own on standard error.

    A failure is ignored: standard error may be a log on a full disk, and the command must still do its work and answer.
    """
    # A closed stream raises ValueError.
    with suppress(OSError, ValueError):
        print(text, end="", file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Print a value as one line of JSON. Bytes of the command line that are not UTF-8 are escaped.

    So are characters that could control a terminal, in a way that JSON itself has for that.
    """
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_encodable(msgspec.to_builtins(value)))
    print(calm_json(encoded).decode())
    _answered.set()


def print_text(text: str) -> None:
    """Print a whole answer, in words or as JSON. No second one follows if the command is interrupted just then."""
    print(text)
    _answered.set()


def fail(error: CommandError, *, as_json: bool) -> int:
    """Print why a command has no answer, and return its exit code."""
    for problem in error.problems:
        say(problem)
    if as_json and not _answered.is_set():
        try:
            print_json(failure_of(error))
            sys.stdout.flush()
        except OutputError as trouble:
            # The exit code of the first error is kept, because it says more about the command.
            give_up(trouble)
    return error.code


def give_up(trouble: OutputError) -> None:
    """Write no more to standard output, and print why, unless its reader has simply stopped reading."""
    discard()
    if not trouble.is_quiet:
        say(str(trouble))


def error_fields(error: CommandError | None) -> dict[str, object]:
    """Return the JSON fields about the error that ended a command in the middle of its work."""
    if error is None:
        return {}
    return {"error": error.kind, "reason": "; ".join(error.problems), "exit_code": error.code}


def prepare() -> None:
    """Make standard output and standard error usable, even if the command was started without them.

    A closed descriptor would otherwise be reused by the next file that is opened. Characters that the terminal's
    encoding lacks are escaped.
    """
    _answered.clear()
    _guard_output()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # `open` takes the lowest free number, and that is this descriptor's.
            opened = open(os.devnull, "r" if number == 0 else "w", encoding="utf-8")  # noqa: SIM115, PTH123
            # Listeners are processes of their own, and need these descriptors too.
            os.set_inheritable(opened.fileno(), True)  # noqa: FBT003 - the standard library's name for it
            setattr(sys, name, opened)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _guard_output() -> None:
    """Let standard output raise OutputError, unless a test or another program has replaced the stream."""
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
    """Send standard output to /dev/null; otherwise Python would try to flush it once more at its end."""
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
