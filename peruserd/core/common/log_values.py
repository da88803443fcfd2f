"""The values of a log line: bounded, and for people escaped, so that an event is one line of a known length.

Names of users and words of servers are parts of these values, and can be of any length and content.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from peruserd.core.common.escaping import harmless

MAX_BYTES: Final = 4_096
"""The limit of a line with its end.

A write of up to this size to a pipe is atomic (PIPE_BUF), so the lines of several processes never mix.
"""


class Limits(msgspec.Struct, frozen=True):
    """The limits of the values of a line: characters of a text, items of a list or table, and their nesting."""

    characters: int
    items: int
    depth: int = 6


STEPS: Final = (Limits(2_000, 64), Limits(500, 24), Limits(160, 10), Limits(60, 5))
"""Limits to try one after the other, until a line fits."""


def bounded(value: object, limits: Limits) -> object:
    """Return a value that JSON can hold and that keeps the limits. What is left out is counted."""
    return _bounded(value, limits, limits.depth)


def one_line(value: object) -> object:
    """Return a value whose texts can neither begin another line nor control a terminal."""
    match value:
        case str():
            return harmless(value)
        case list():
            return [one_line(each) for each in value]
        case dict():
            return {harmless(str(key)): one_line(each) for key, each in value.items()}
        case _:
            return value


def _bounded(value: object, limits: Limits, depth: int) -> object:
    match value:
        case str():
            return _cut(str(value), limits.characters)
        case None | bool() | int() | float():
            return value
        case Mapping() if depth:
            return _table(value, limits, depth - 1)
        case list() | tuple() | set() | frozenset() if depth:
            return _items(list(value), limits, depth - 1)
        case _:
            return _cut(repr(value), limits.characters)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}… ({len(text):,} characters)"


def _table(table: Mapping[object, object], limits: Limits, depth: int) -> dict[str, object]:
    found = {_cut(str(key), limits.characters): table[key] for key in list(table)[: limits.items]}
    shown = {key: _bounded(value, limits, depth) for key, value in found.items()}
    if (left_out := len(table) - len(shown)) > 0:
        shown["…"] = f"{left_out:,} more"
    return shown


def _items(items: list[object], limits: Limits, depth: int) -> list[object]:
    """Return the first and the last items. Of a traceback these are where it begins and where it ends."""
    if len(items) <= limits.items:
        return [_bounded(each, limits, depth) for each in items]
    first = limits.items // 2
    kept = [_bounded(each, limits, depth) for each in (*items[:first], *items[len(items) - (limits.items - first) :])]
    return [*kept[:first], f"… {len(items) - limits.items:,} more", *kept[first:]]
