"""How deeply JSON may be nested that a user has written, such as a security object or a document. Pure.

Python bounds how deep its own stack and that of a comparison may be, and the bound counts from where it stands. So an
object that was read at one place cannot be compared a few calls further down, and its user chooses how deep it is.
Anything up to `MAX_LEVELS` can be worked with everywhere.
"""

from collections.abc import Iterable
from typing import Any, Final

MAX_LEVELS: Final = 200
"""Three times what a template may have, and a fifth of what Python 3.11 can do."""


def is_too_deep(value: object) -> bool:
    """Say whether decoded JSON has more than `MAX_LEVELS` objects and lists inside one another."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_LEVELS):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def may_be_too_deep(text: bytes) -> bool:
    """Say whether JSON can be too deep, by its brackets alone: hardly any text has so many."""
    return text.count(b"[") + text.count(b"{") > MAX_LEVELS


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
