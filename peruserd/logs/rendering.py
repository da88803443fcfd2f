"""The text of a log line: JSON for programs, or a line for people. An event is always one line, of a bounded length."""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from structlog.typing import EventDict

from peruserd.core.common.log_values import MAX_BYTES, STEPS, bounded, one_line

# Tracebacks leave local variables out, because those of a request hold its credentials.
_TRACEBACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=16)

# The innermost frames of an error, and the errors before it, for people.
_FRAMES: Final = 8
_CHAIN: Final = 4

_COLORS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m"}
_RED: Final = "\x1b[31m"
_PLAIN: Final = "\x1b[0m"

_HEAD: Final = ("timestamp", "level", "event")

Render = Callable[[EventDict], str]
"""Makes the text of a line, without its end."""


def for_programs(event: EventDict) -> str:
    """Return an event as one line of JSON. Everything but printable ASCII is escaped."""
    # JSON may have this control character as it is, and a terminal obeys it.
    return _fitting(event, lambda values: json.dumps(values).replace("\x7f", "\\u007f"))


def for_people(event: EventDict) -> str:
    """Return an event as a line for people. Control characters and marks of direction are escaped."""
    return _for_people(event, lambda _level, text: text)


def for_people_in_color(event: EventDict) -> str:
    """Return the same with the level in color."""
    return _for_people(event, lambda level, text: f"{_COLORS.get(level, _RED)}{text}{_PLAIN}")


def with_error(event: EventDict, *, for_program: bool) -> EventDict:
    """Return an event with its error, if it has one, as values; what is never cut comes first."""
    error = _error_of(event.pop("exc_info", None))
    ordered = {**{key: event[key] for key in _HEAD if key in event}, **event}
    if error is not None:
        in_parts = (type(error), error, error.__traceback__)
        ordered["exception"] = _TRACEBACKS(in_parts) if for_program else _in_words(error)
    return ordered


def _for_people(event: EventDict, color: Callable[[str, str], str]) -> str:
    def render(values: dict[str, Any]) -> str:
        calm: Any = one_line(values)
        timestamp, level, words = (calm.pop(key, "") for key in _HEAD)
        details = " ".join(f"{key}={_quoted(value)}" for key, value in calm.items())
        return f"{timestamp} {color(level, f'[{level:<8}]')} {words}{'  ' if details else ''}{details}"

    return _fitting(event, render)


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not text or set(text) & set(" \"'=")):
        return '"' + text.replace('"', '\\"') + '"'
    return text


def _fitting(event: Mapping[str, object], render: Callable[[dict[str, Any]], str]) -> str:
    """Return the line with as much of the values as fits into it."""
    for limits in STEPS:
        values: Any = bounded(event, limits)
        line = render(values)
        if len(line.encode("utf-8", "backslashreplace")) < MAX_BYTES:
            return line
    least: Any = bounded({key: event[key] for key in _HEAD if key in event}, STEPS[-1])
    return render({**least, "cut": True})


def _error_of(given: Any) -> BaseException | None:
    """Return the error that a caller gave for a line, or the one that is handled now if the caller asked for that."""
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException) or not given:
        return given or None
    return sys.exc_info()[1]


def _in_words(error: BaseException) -> str:
    """Return an error with its innermost frames, and those before it, in one line."""
    words: list[str] = []
    current: BaseException | None = error
    while current is not None and len(words) < _CHAIN:
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES:]
        places = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
        words.append(f"{type(current).__name__}: {current}" + (f" [{places}]" if places else ""))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "; after ".join(words)
