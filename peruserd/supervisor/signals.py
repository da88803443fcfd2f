"""The signals of the supervisor's loop. Handlers add them to the inbox, and the loop decides what they mean.

A signal that ends the instance also starts the clock of the last resort in its handler, because the loop may hang.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self


class _HeldHangup:
    """The handler of SIGHUP while no loop runs: it notes the signal, which would end the process by default."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Note a signal."""
        self.came = True


def hold_hangup() -> None:
    """Let SIGHUP end nothing, before the loop and after it. A loop that begins later takes a signal that came before.

    For the main thread.
    """
    signal.signal(signal.SIGHUP, _HeldHangup())


def ignore_hangup() -> None:
    """Let SIGHUP do nothing from now on, also while the interpreter ends, which takes each other handler away first.

    For the main thread.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Signals:
    """Adds signals to the loop's inbox, and restores the handlers afterwards.

    `on_end` is called in the handler, for each signal but SIGHUP.
    """

    _OBEYED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self, put: Callable[[signal.Signals], None], on_end: Callable[[], None]) -> None:
        self._put = put
        self._on_end = on_end
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self._OBEYED}
            held = self._before[signal.SIGHUP]
            if isinstance(held, _HeldHangup) and held.came:
                held.came = False
                self._put(signal.SIGHUP)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGHUP:
            self._on_end()
        self._put(signal.Signals(number))
