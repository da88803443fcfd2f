"""Reading the configuration file.

The password and the certificates that it names are read by `peruserd.cli.loading`. That module imports the libraries
for requests, and their import is two thirds of the time of a command without a server.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peruserd.core.configuration.decoding import ConfigError, Loaded, load
from peruserd.core.configuration.problems import TemporaryError

# With these errors the configuration may be in order, and only the machine is not.
_PASSING: Final = frozenset(
    {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
)


def load_file(path: str | None, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Return the configuration of a file (or the defaults), overridden by the environment.

    Raises ConfigError, and TemporaryError if the file cannot be read now.
    """
    if path is None:
        return load("", environment, "defaults")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        kind = TemporaryError if error.errno in _PASSING else ConfigError
        raise kind([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8: {error}"]) from error
    return load(text, environment, path)
