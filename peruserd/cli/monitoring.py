"""`peruserd monitoring export`: write the rules for Prometheus, their tests and the dashboard for Grafana."""

import argparse
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from peruserd.cli.output import PASSING, CommandError, print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_NOT_DONE
from peruserd.core.common.escaping import named
from peruserd.monitoring.exported import Form
from peruserd.monitoring.files import files

# Prometheus and Grafana run with accounts of their own, and nothing in the files is secret.
_MODE: Final = 0o644


class _Exported(msgspec.Struct, frozen=True):
    """The files that were written."""

    directory: str
    files: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    """Write the files; exit 1 if one is there already with other contents, and then write none."""
    directory = Path(options.directory)
    form = Form(options.job, options.runbook, options.scale)
    contents = {directory / name: text.encode() for name, text in files(form).items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not options.overwrite:
            _refuse_to_overwrite(contents)
        for path, text in contents.items():
            _write(path, text)
    except OSError as error:
        code = EXIT_LATER if error.errno in PASSING else EXIT_NOT_DONE
        words = f"monitoring: cannot write to {named(options.directory)}: {error.strerror}"
        raise CommandError(code, "not_written", words) from error
    if options.json:
        print_json(_Exported(str(directory), tuple(path.name for path in contents)))
    else:
        for path in contents:
            print(named(str(path)))
    return EXIT_DONE


def _refuse_to_overwrite(contents: dict[Path, bytes]) -> None:
    """Raise CommandError if a file is there with other contents: somebody may have changed it."""
    there = [path for path, text in contents.items() if os.path.lexists(path) and path.read_bytes() != text]
    if there:
        words = f"monitoring: {', '.join(named(str(path)) for path in there)}: there already, and different"
        raise CommandError(EXIT_NOT_DONE, "exists", f"{words}; --overwrite replaces it")


def _write(path: Path, text: bytes) -> None:
    """Write a file as a whole: a Prometheus that reads its rules again never sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), _MODE)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise
