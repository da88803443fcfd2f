"""Functions for children of the fork server, in a module of their own, so that a child can import them by name."""

import gc
import random
import sys
from typing import Any

from peruserd.listener.process import main


def look_around(pipe: Any) -> None:
    """Send the loaded modules, the number of objects that the collector leaves alone, and a random number."""
    pipe.send((set(sys.modules), gc.get_freeze_count(), random.random()))


def listen(start: bytes, pipe: Any, imported: Any) -> None:
    """Run a listener, and send the modules that it imported meanwhile."""
    before = set(sys.modules)
    try:
        main(start, pipe)
    finally:
        imported.send(set(sys.modules) - before)
