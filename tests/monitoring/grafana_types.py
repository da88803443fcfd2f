"""Checks of a value against the types that Grafana's own schema was made into."""

import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

Misfits = Iterable[str]


def left_out(ours: object, theirs: object, path: str = "") -> Misfits:
    """Return the places of values that Grafana's types have not kept as they were."""
    match ours, theirs:
        case dict(), dict():
            for key, value in ours.items():
                yield from left_out(value, theirs.get(key, "nothing"), f"{path}.{key}")
        case list(), list() if len(ours) == len(theirs):
            for place, (value, kept) in enumerate(zip(ours, theirs, strict=True)):
                yield from left_out(value, kept, f"{path}[{place}]")
        case _ if ours != theirs:
            yield f"{path}: {ours!r} became {theirs!r}"


def misfits(value: object, hint: Any, path: str = "") -> Misfits:
    """Return the places of values that are of another type than Grafana's schema says."""
    origin = typing.get_origin(hint)
    if origin is not None:
        return _COMPOSED[origin](value, typing.get_args(hint), path)
    if hint is Any or hint is object:
        return _of_fields(value, path)
    if issubclass(hint, Enum):
        return _one_of(value, tuple(each.value for each in hint), path)
    if hint in (int, float):
        is_number = isinstance(value, int | hint) and not isinstance(value, bool)
        return [] if is_number else [f"{path}: {value!r} is no {hint.__name__}"]
    return _of_fields(value, path) if isinstance(value, hint) else [f"{path}: {value!r} is no {hint.__name__}"]


def _one_of(value: object, allowed: tuple[object, ...], path: str) -> Misfits:
    return [] if value in allowed else [f"{path}: {value!r} is none of {allowed}"]


def _of_list(value: object, parts: tuple[Any, ...], path: str) -> Misfits:
    if not isinstance(value, list):
        return [f"{path}: {value!r} is no list"]
    return (found for place, each in enumerate(value) for found in misfits(each, parts[0], f"{path}[{place}]"))


def _of_dict(value: object, parts: tuple[Any, ...], path: str) -> Misfits:
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no map"]
    return (found for key, each in value.items() for found in misfits(each, parts[1], f"{path}.{key}"))


def _of_union(value: object, parts: tuple[Any, ...], path: str) -> Misfits:
    """Return the misfits of the part that fits best: the one whose first misfit lies deepest."""
    tried: list[list[str]] = [list(misfits(value, each, path)) for each in parts]
    if [] in tried:
        return []
    return max(tried, key=_depth)


def _depth(found: list[str]) -> int:
    return len(found[0].partition(":")[0])


def _of_fields(value: object, path: str) -> Iterator[str]:
    kind = type(value)
    if kind.__module__.startswith("grafana_foundation_sdk"):
        for name, hint in typing.get_type_hints(kind).items():
            yield from misfits(getattr(value, name), hint, f"{path}.{name}")


_COMPOSED: dict[Any, Callable[[object, tuple[Any, ...], str], Misfits]] = {
    typing.Union: _of_union,
    types.UnionType: _of_union,
    typing.Literal: _one_of,
    list: _of_list,
    dict: _of_dict,
}
