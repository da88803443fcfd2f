"""A value that must not be shown."""

from typing import Any

import msgspec


class Secret(msgspec.Struct, frozen=True):
    """A password. No representation, log or traceback shows it."""

    value: str

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # rich, which structlog uses for tracebacks, prefers this method to repr, and msgspec's own shows all fields.
        return [("value", "***")]
