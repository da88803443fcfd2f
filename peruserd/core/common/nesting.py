"""The limit for the nesting of JSON from users, such as security objects and documents. Pure.

Python limits the depth of its stack, also during a comparison of values. The limit counts from the bottom of the stack.
So an object that was read at one place may fail to be compared a few calls further down, and its user chooses its
depth. Objects with up to `MAX_LEVELS` levels can be used everywhere.
"""

from collections.abc import Iterable
from typing import Any, Final

MAX_LEVELS: Final = 200
"""Three times the limit of a template, and a fifth of what Python 3.11 can do."""


def is_too_deep(value: object, max_levels: int = MAX_LEVELS) -> bool:
    """Say whether decoded JSON has more than `max_levels` objects and lists inside one another."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(max_levels):
        level = [inner for each in level for inner in _inside(each) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def may_be_too_deep(text: bytes) -> bool:
    """Say whether JSON may be too deep, by the number of its brackets. Hardly any text has so many."""
    return text.count(b"[") + text.count(b"{") > MAX_LEVELS


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value
