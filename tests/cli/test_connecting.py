"""Ctrl-C in a command that waits for its threads."""

import signal
import threading
from collections.abc import Iterator

import pytest

from peruserd.cli.connecting import _interruptible


class Requests:
    """A substitute for a session, to see that requests under way are ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def interrupt(self) -> None:
        """End them."""
        self.ended.set()


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Put back what a test does to the signal."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_own_signals")
def test_ctrl_c_ends_requests_and_the_command() -> None:
    """Another thread interrupts, because the main thread may hold a lock; afterwards the signal is as before."""
    requests = Requests()
    with pytest.raises(KeyboardInterrupt), _interruptible(requests):  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
    assert requests.ended.wait(60)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("_own_signals")
def test_a_job_in_the_background_goes_on_ignoring_it() -> None:
    """A shell starts a background job so that Ctrl-C reaches only the foreground."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = Requests()
    with _interruptible(requests):  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert not requests.ended.is_set()
