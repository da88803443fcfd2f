"""Functions that tests of the fork server run in its children; importable there by name."""

import gc
import random
import sys
from typing import Any

from peruserd.listener.process import main


def look_around(pipe: Any) -> None:
    """Tell which modules are there, how many objects the collector leaves alone, and what chance has in store."""
    pipe.send((set(sys.modules), gc.get_freeze_count(), random.random()))


def listen(start: bytes, pipe: Any, imported: Any) -> None:
    """Be a listener, and tell which modules that took."""
    before = set(sys.modules)
    try:
        main(start, pipe)
    finally:
        imported.send(set(sys.modules) - before)
