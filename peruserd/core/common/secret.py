"""A value that must not be shown."""

from typing import Any

import msgspec


class Secret(msgspec.Struct, frozen=True):
    """A password, which no representation, log or traceback shows."""

    value: str

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Every msgspec.Struct has one that shows its fields, and rich (structlog's tracebacks) asks it before repr.
        return [("value", "***")]
