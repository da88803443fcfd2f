"""Writes to the state directory in tests without the thread that makes them."""

from collections.abc import Callable


def put_now(_name: str, write: Callable[[], None]) -> None:
    """Make a write at once."""
    write()
