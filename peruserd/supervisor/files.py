"""Small files of the supervisor in the state directory; each write replaces the whole file."""

import os
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Replace the file atomically: a process that is killed leaves the old file or the new one. Raises OSError."""
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    new.replace(file)
