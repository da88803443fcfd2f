"""The state directory: where it is, whether it can be used, and which file in it belongs to which shard copy."""

import errno
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import quote

from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError

DEFAULT_STATE_DIRECTORY: Final = "/var/lib/peruserd"

_SUFFIX: Final = ".sqlite"

# Errors of the machine that can pass, and none of the directory that was configured.
_PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
)


class StateDirectory:
    """One instance's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def configured(cls, config: Config) -> "StateDirectory":
        """Return the directory as configured, else systemd's, else the usual one.

        A unit can have several, and then systemd gives a list with colons, in the order of the unit.
        """
        of_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
        return cls(Path(config.state.directory or of_systemd or DEFAULT_STATE_DIRECTORY))

    def prepare(self) -> None:
        """Make it where it is missing; raises ConfigError where it cannot be written to.

        What ends without another configuration, such as a full disk, raises OSError.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            if error.errno in _PASSING:
                raise
            raise ConfigError([f"state.directory: cannot write to {self.path}: {error.strerror}"]) from error

    def file_of(self, copy: Copy) -> Path:
        """Return the state file of one copy: its name says which, whatever its node is called."""
        parts = (copy.database, copy.node, str(copy.range), copy.feed.value + copy.suffix)
        return self.path / ("~".join(quote(part, safe="@") for part in parts) + _SUFFIX)

    def retired(self, in_use: Collection[Copy]) -> tuple[str, ...]:
        """Return the state files that belong to none of the copies `in_use`, sorted."""
        used = {self.file_of(copy) for copy in in_use}
        return tuple(sorted(str(file) for file in self.path.glob(f"*{_SUFFIX}") if file not in used))
