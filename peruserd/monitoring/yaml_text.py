"""Writing YAML: maps, lists, numbers and texts, in a form that people read and every reader of YAML understands."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

Value = str | float | Mapping[str, "Value"] | Sequence["Value"]

# Texts that no reader takes for anything else. All others are quoted as in JSON, which is YAML too.
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:/.-]*[A-Za-z0-9_]|[A-Za-z_]|\d+(?:ms|[smhd])")
_WORDS: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"})

_INDENT: Final = "  "


def written(value: Value) -> str:
    """Return a document."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Value) -> Iterator[str]:
    """Return the lines of a value, without indentation of the whole."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _entry(f"{key}:", each)
    elif isinstance(value, str | float | int):
        yield _scalar(value)
    else:
        for each in value:
            first, *others = _lines(each)
            yield f"- {first}"
            yield from (_INDENT + line for line in others)


def _entry(key: str, value: Value) -> Iterator[str]:
    if isinstance(value, str) and "\n" in value:
        yield f"{key} |"
        yield from (_INDENT + line for line in value.rstrip("\n").split("\n"))
    elif isinstance(value, str | float | int):
        yield f"{key} {_scalar(value)}"
    else:
        yield key if value else f"{key} {'{}' if isinstance(value, Mapping) else '[]'}"
        yield from (_INDENT + line for line in _lines(value))


def _scalar(value: str | float) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    if _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS:
        return value
    # Within single quotes nothing is special, so expressions stay as they are.
    if '"' in value and value.isprintable() and "'" not in value and "\\" not in value:
        return f"'{value}'"
    return json.dumps(value, ensure_ascii=False)
