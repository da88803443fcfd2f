"""Users leave again, so that a cluster does not fill up while others sign up."""

import threading
import time
from types import TracebackType
from typing import Self

from bench.harness.cluster import Cluster
from bench.harness.watch import Watch


class Departures:
    """A context manager: each user whom `watch` saw served leaves `stay` seconds later, at most `rate` users a second.

    Without that limit, users who were served late would all leave at once, and so be a load of their own. The end of
    the context ends the departures, and raises what went wrong.
    """

    def __init__(self, cluster: Cluster, watch: Watch, stay: float, rate: float) -> None:
        self._cluster = cluster
        self._watch = watch
        self._stay = stay
        self._interval = 1.0 / rate
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
        """End it. A departure under way ends first."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            pause = 0.0
            while not self._stopping.wait(pause):
                begin = time.monotonic()
                if (name := self._due(begin)) is not None:
                    self._cluster.remove(name)
                    self.gone.add(name)
                pause = max(0.0, begin + self._interval - time.monotonic())
        except Exception as error:  # noqa: BLE001 - raised at the end of the context
            self._failure = error

    def _due(self, now: float) -> str | None:
        waiting = {name: at for name, at in dict(self._watch.served).items() if name not in self.gone}
        longest = min(waiting, key=waiting.__getitem__, default=None)
        return None if longest is None or waiting[longest] > now - self._stay else longest
