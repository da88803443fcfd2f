"""Showing text that users chose, on a terminal and in JSON. Their names may contain any control character."""

import re
import shlex
import unicodedata
from datetime import UTC, datetime
from typing import Final

# Control, format (with those that change the direction of writing), surrogate, private and unassigned characters, and
# the separators of lines and paragraphs.
_UNSHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Outside of strings, JSON has none of these.
_UNUSUAL: Final = re.compile(r"[^\x00-\x7e]")


def shown(text: str) -> str:
    r"""Return `text` so that it can neither control a terminal nor look like another text there.

    Some characters are written as `\x1b`, `\u202e` or `\U000e0001`: control characters, those that change the direction
    of writing, those without width, and lone surrogates. A backslash is doubled, so that nobody can imitate these.
    """
    # Most names have nothing to escape. Python's own test knows the same categories, and takes spaces for unprintable.
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_shown, text))


def as_json_text(text: str) -> str:
    """Return `text` as JSON can hold it. Bytes of a command line that are not UTF-8 are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def calm_json(encoded: bytes) -> bytes:
    r"""Return JSON with the characters that `shown` escapes written as `\u202e`, which means the same to any reader.

    So it can be printed on a terminal, and read line by line by programs that take other characters for ends of lines.
    """
    if encoded.isascii() and b"\x7f" not in encoded:
        # Other control characters can be in no JSON.
        return encoded
    return _UNUSUAL.sub(_in_json, encoded.decode()).encode()


def named(name: str) -> str:
    """Return a name as `shown` does, and an empty name as two quotes, so that a sentence with it can be read."""
    return shown(name) or '""'


def harmless(words: str) -> str:
    """Return the words of a server or of an error as one line that cannot control a terminal.

    The results of `shown` stay as they are, so a line can contain both.
    """
    if words.isprintable():
        return words
    return "".join(each if each == "\\" else _shown(each) for each in words)


def argument(name: str) -> str:
    """Return a name as it is typed in a shell, or USER if it cannot be shown as it is."""
    return "USER" if shown(name) != name or name.startswith("-") else shlex.quote(name)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 user", "2,000 users". `plural` is given if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(seconds: float) -> str:
    """Return a duration for people: "5 s", "10 min", "7 d". A negative one, from a clock set back, is "0 s"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def date(moment: float) -> str:
    """Return a moment of the wall clock, in seconds, as a date in UTC. Any number is accepted, even a senseless one."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "at no time"


def _in_json(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _UNSHOWN:
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _UNSHOWN:
        return character
    place = ord(character)
    if place < 0x100:
        return f"\\x{place:02x}"
    return f"\\u{place:04x}" if place < 0x10000 else f"\\U{place:08x}"
