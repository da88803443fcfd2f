"""Showing on a terminal what users chose: their names hold any character, also those that steer a terminal."""

import unicodedata
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


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) not in _UNSHOWN:
        return character
    place = ord(character)
    if place < 0x100:
        return f"\\x{place:02x}"
    return f"\\u{place:04x}" if place < 0x10000 else f"\\U{place:08x}"
