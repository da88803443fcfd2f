"""The memory of the listeners while a benchmark runs."""

import threading
from typing import Final, Self

import psutil

from bench.harness.daemons import Daemons

_LOOK_SECONDS: Final = 1.0


class MemoryProbe:
    """A context manager that reads the listeners' memory every second. `most` is the largest one's, in bytes."""

    def __init__(self, instances: Daemons) -> None:
        self._instances = instances
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            pids = [pid for each in self._instances.all for pid in each.listener_pids()]
            self.most = max(self.most, *map(_own_memory, pids), 0)
            if self._stopping.wait(_LOOK_SECONDS):
                return


def _own_memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0
