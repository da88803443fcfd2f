"""The state directory: its path, whether it is writable, and the state file of each shard copy."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.problems import TemporaryError, error_of
from peruserd.listener.retired_files import SUFFIX

DEFAULT_STATE_DIRECTORY: Final = "/var/lib/peruserd"

# A listener's new state file takes this much, together with its write-ahead log.
_ROOM_BYTES: Final = 65_536


class StateDirectory:
    """One instance's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def configured(cls, config: Config) -> "StateDirectory":
        """Return the configured directory, or else systemd's, or else the default.

        A unit can have several state directories. Systemd lists them with colons, in the order of the unit.
        """
        of_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls(Path(config.state.directory or of_systemd or DEFAULT_STATE_DIRECTORY))

    def prepare(self) -> None:
        """Make the directory if it is missing; raises ConfigError if that is impossible.

        An error that can pass without another configuration, such as a full disk, raises TemporaryError.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            try:
                # An empty file can be made on a full disk too.
                probe.write_bytes(bytes(_ROOM_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            if (link := _dangling(self.path)) is not None:
                # The disk that it leads to can still be mounted.
                problem = f"state.directory: {link} is a link to {link.readlink()}, which is not there"
                raise TemporaryError([problem]) from error
            raise error_of(f"state.directory: cannot write to {self.path}: {error.strerror}", error) from error

    def file_of(self, copy: Copy) -> Path:
        """Return the state file of one copy. Its name identifies the copy; special characters are quoted."""
        parts = (copy.database, copy.node, str(copy.range), copy.feed.value + copy.suffix)
        return self.path / ("~".join(quote(part, safe="@") for part in parts) + SUFFIX)


def _dangling(path: Path) -> Path | None:
    """Return the part of a path that is a link to nothing; None if there is none."""
    for each in (path, *path.parents):
        try:
            if each.is_symlink():
                each.stat()
        except FileNotFoundError:
            return each
        except OSError:
            # Links that lead to each other, for example: only another path helps.
            return None
    return None
