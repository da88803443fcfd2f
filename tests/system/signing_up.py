"""Users who sign up while something else happens."""

import threading
import time
from typing import Final

from tests.system.target import Target

_GROUP: Final = 10
_PAUSE_SECONDS: Final = 0.05


class SigningUp:
    """Signs users up in small groups from another thread; leaving the context waits for the last of them.

    `nodes` are asked in turn, counted from 1.
    """

    def __init__(self, target: Target, names: list[str], nodes: tuple[int, ...] = (1, 2, 3)) -> None:
        self._target = target.another()
        self._names = names
        self._nodes = nodes
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._target.close()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for number, start in enumerate(range(0, len(self._names), _GROUP)):
                node = self._nodes[number % len(self._nodes)]
                self._target.sign_up(self._names[start : start + _GROUP], node=node)
                time.sleep(_PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - raised in the test's own thread
            self._failure = error
