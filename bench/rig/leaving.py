"""Users who leave again, so that a cluster where people sign up does not fill up meanwhile."""

import threading
import time
from types import TracebackType
from typing import Final, Self

from bench.rig.cluster import Cluster
from bench.rig.watching import Watch

_LOOK_SECONDS: Final = 0.05


class Leaving:
    """A context manager: everybody whom `watch` saw served leaves `stay` seconds later, one after another.

    Leaving it raises what went wrong; nobody leaves any more from then on.
    """

    def __init__(self, cluster: Cluster, watch: Watch, stay: float) -> None:
        self._cluster = cluster
        self._watch = watch
        self._stay = stay
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.gone: set[str] = set()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; who is about to leave has left."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_LOOK_SECONDS):
                for name in self._due():
                    self._cluster.remove(name)
                    self.gone.add(name)
        except Exception as error:  # noqa: BLE001 - handed to whoever leaves the context
            self._failure = error

    def _due(self) -> list[str]:
        served = dict(self._watch.served)
        latest = time.monotonic() - self._stay
        return [name for name, at in served.items() if at <= latest and name not in self.gone]
