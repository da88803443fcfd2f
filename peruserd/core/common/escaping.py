"""Showing what users chose, on a terminal and in JSON: their names hold any character, also those that steer either."""

import shlex
import unicodedata
from datetime import UTC, datetime
from typing import Final

# Control, format (which holds those that turn the direction of writing), surrogate, private and unassigned characters,
# and the separators of lines and paragraphs.
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(text: str) -> str:
    r"""Return `text` so that it can neither steer a terminal nor pass for another text in it.

    Control characters, those that turn the direction of writing, those without width and lone surrogates are written
    as `\x1b`, `\u202e` or `\U000e0001`. A backslash is doubled, so that nobody can write what looks like one of them.
    """
    return "".join(map(_shown, text))


def as_json_text(text: str) -> str:
    """Return `text` as JSON can hold it: bytes of a command line that are no UTF-8 have no place there."""
    return text.encode("utf-8", "backslashreplace").decode()


def named(name: str) -> str:
    """Return a name as `shown` does, and the empty one as two quotes, so that a sentence about it can be read."""
    return shown(name) or '""'


def harmless(words: str) -> str:
    """Return the words of a server or of an error as one line that cannot steer a terminal.

    Words that `shown` has made already stay as they are, so a line can be made of both.
    """
    return "".join(each if each == "\\" else _shown(each) for each in words)


def argument(name: str) -> str:
    """Return how a name is typed in a shell, or USER for one that cannot be shown as it is."""
    return "USER" if shown(name) != name or name.startswith("-") else shlex.quote(name)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and what is counted: "1 user", "2,000 users"; `plural` where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(seconds: float) -> str:
    """Return how long something lasts, as people say it: "5 s", "10 min", "7 d"; 0 s for a clock that was set back."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def date(moment: float) -> str:
    """Return a moment of the wall clock, in seconds, to the second and in UTC; files and documents can hold any."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "at no time"


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _UNSHOWN:
        return character
    place = ord(character)
    if place < 0x100:
        return f"\\x{place:02x}"
    return f"\\u{place:04x}" if place < 0x10000 else f"\\U{place:08x}"
