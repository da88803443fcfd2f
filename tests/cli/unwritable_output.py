"""A command in a forked process whose output cannot be written.

The module is imported by each such process, so it imports next to nothing itself.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from peruserd.cli import main
from tests.forking import CONTEXT, hurry

_PATIENCE_SECONDS = 60


def run(arguments: Sequence[str], kind: str, said: Path) -> int | None:
    """Run a command with an output of this kind, and return its exit code; its standard error goes to a file."""
    process = CONTEXT.Process(target=_child, args=(arguments, kind, said))
    process.start()
    process.join(_PATIENCE_SECONDS)
    return process.exitcode


def _child(arguments: Sequence[str], kind: str, said: Path) -> None:
    os.dup2(_opened(kind), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    for name in [each for each in os.environ if each.startswith("PERUSERD_")]:
        del os.environ[name]
    hurry()
    sys.exit(main(arguments))


def _opened(kind: str) -> int:
    """Return a descriptor that cannot be written."""
    if kind == "without a reader":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open("/dev/full", os.O_WRONLY) if kind == "full" else os.open("/dev/null", os.O_RDONLY)
