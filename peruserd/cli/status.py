"""`peruserd status`: show what the daemon of this node does, and what troubles it."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.order_command import NotTakenError, given, not_understood
from peruserd.cli.output import failure_of, print_text
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.cli.status_words import in_words
from peruserd.core.common.escaping import date
from peruserd.core.processes import control
from peruserd.core.processes.status import Status, decode_status
from peruserd.daemon.state import StateDirectory

_EVERY_SECONDS: Final = 2.0

# The cursor goes to the first place, and everything from there on is removed.
_CLEAR: Final = "\x1b[H\x1b[J"


class Answered(msgspec.Struct, frozen=True):
    """The status of a daemon, decoded and as it came."""

    status: Status
    as_json: str

    @property
    def code(self) -> int:
        """Return the exit code: whether the instance is healthy and ready."""
        return EXIT_DONE if self.status.healthy.ok and self.status.ready.ok else EXIT_NOT_DONE


def run(options: argparse.Namespace) -> int:
    """Print the status once, or again and again until Ctrl-C; exit 1 unless the instance is healthy and ready."""
    directory = StateDirectory.configured(load_file(options.config).config).path
    if options.watch:
        return _watch(directory, as_json=options.json)
    answered = ask(directory)
    print_text(answered.as_json if options.json else in_words(answered.status))
    return answered.code


def ask(directory: Path) -> Answered:
    """Ask the daemon with this state directory; raises NotTakenError."""
    found, *_ = given(directory, control.AskStatus())
    if not isinstance(found, control.StatusIs):
        raise not_understood(found)
    raw = bytes(found.status)
    try:
        return Answered(decode_status(raw), raw.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise not_understood(found) from error


def _watch(directory: Path, *, as_json: bool) -> int:
    """Print the status every two seconds, also while no daemon answers, so that a restart can be watched."""
    code = EXIT_NOT_DONE
    show = _print_line if as_json else _redraw if _can_be_redrawn() else _print_after
    try:
        while True:
            try:
                answered = ask(directory)
                code = answered.code
                show(answered.as_json if as_json else in_words(answered.status))
            except NotTakenError as error:
                code = error.code
                show(msgspec.json.encode(failure_of(error)).decode() if as_json else error.problems[0])
            time.sleep(_EVERY_SECONDS)
    except KeyboardInterrupt:
        # This is how watching ends.
        return code


def _can_be_redrawn() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _redraw(text: str) -> None:
    """Show a text in the place of the one before."""
    size = shutil.get_terminal_size()
    lines = [f"{date(time.time())}, every {_EVERY_SECONDS:g} s until Ctrl-C", "", *text.splitlines()]
    # A longer text would scroll the beginning away, and a wider one would take more lines.
    room = max(size.lines - 1, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines"]
    print(_CLEAR + "\n".join(line[: size.columns] for line in lines), flush=True)


def _print_after(text: str) -> None:
    print(f"{date(time.time())}\n{text}\n", flush=True)


def _print_line(text: str) -> None:
    print(text, flush=True)
