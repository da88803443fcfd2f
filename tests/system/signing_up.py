"""Users who sign up while something else happens."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, Self

from tests.system.target import Target
from tests.waiting import eventually

_GROUP: Final = 10
_PAUSE_SECONDS: Final = 0.05

# A load that leaves processor time for starting processes: 40 sign-ups a second at first.
_STEADY_PAUSE_SECONDS: Final = 0.1
# A long test makes fewer and fewer users. A scan is slow while users sign up, and each new user adds to it, so a busy
# machine would never reach its end.
_STEADY_GROWTH: Final = 1.03
_MAX_PAUSE_SECONDS: Final = 0.6


class SigningUp:
    """Signs users up in small groups from another thread; the end of the context waits for the last group.

    `nodes` are asked in turn, counted from 1. Without `names`, fresh users sign up steadily until the end of the
    context, and `names` then lists them.
    """

    GROUP: Final = 4

    def __init__(self, target: Target, names: list[str] | None = None, nodes: tuple[int, ...] = (1, 2, 3)) -> None:
        self.names: list[str] = []
        self._target = target.another()
        self._given = names
        self._nodes = nodes
        self._leaving = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        self._target.close()
        if self._failure is not None:
            raise self._failure

    def wait_for_more(self, count: int) -> None:
        """Wait until that many more users have signed up."""
        before = len(self.names)
        eventually(lambda: len(self.names) >= before + count, f"{count} more have signed up")

    def _run(self) -> None:
        pause, growth = (_STEADY_PAUSE_SECONDS, _STEADY_GROWTH) if self._given is None else (_PAUSE_SECONDS, 1.0)
        try:
            for number, group in enumerate(self._groups()):
                self._target.sign_up(group, node=self._nodes[number % len(self._nodes)])
                self.names += group
                time.sleep(pause)
                pause = min(pause * growth, _MAX_PAUSE_SECONDS)
        except Exception as error:  # noqa: BLE001 - raised in the test's own thread
            self._failure = error

    def _groups(self) -> Iterable[list[str]]:
        if self._given is None:
            return self._fresh_groups()
        return (self._given[start : start + _GROUP] for start in range(0, len(self._given), _GROUP))

    def _fresh_groups(self) -> Iterator[list[str]]:
        while not self._leaving.is_set():
            yield self._target.new_names(self.GROUP)
