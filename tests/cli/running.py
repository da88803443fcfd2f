"""Commands as a user runs them: each in a process of its own, with its own environment and output.

Short commands are forked, see `tests.forking`. Commands that run on are started as a user starts them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from peruserd.cli import main
from tests.forking import CONTEXT, hurry

_RUN_ON = ("run", "demo", "simcluster")
_PATIENCE_SECONDS = 120


def peruserd(
    *arguments: str, environment: dict[str, str] | None = None, ends_at_once: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    With `ends_at_once` any command is forked, because it only shows its help, or finds a mistake.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PERUSERD_")}
    whole = {**clean, **(environment or {})}
    if arguments[:1] and arguments[0] in _RUN_ON and not ends_at_once:
        return subprocess.run(
            [sys.executable, "-m", "peruserd", *arguments],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
            env=whole,
        )
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / name for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(arguments, whole, files))
        process.start()
        process.join(_PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode is not None
        said = [file.read_text(encoding="utf-8") for file in files]
        return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _run(arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[Path]) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    hurry()
    sys.exit(main(arguments))
