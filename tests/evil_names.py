"""Names and words that an enemy would choose. One set goes through everything that is shown, written or answered.

Users choose their names, and a proxy can answer with any node's name or reason. A test takes `EVIL` for whatever is a
text there, and `UNSERVABLE` where even a text that is no Unicode can come.
"""

import unicodedata
from typing import Final

EVIL: Final = {
    "markup": "<img src=x onerror=\"document.title='owned'\">",
    "script": "</script><script>document.title='owned'</script>",
    "style": "</style><style>*{display:none}",
    "comment": "<!-- --!> <!--PLAIN-->",
    "attribute": "\" onmouseover=\"document.title='owned'\" x='",
    "entity": "&lt;b&gt;&#x1b;&amp;",
    "template": "${document.title='owned'}{{7*7}}/*KINDS*/",
    "escape sequence": "a\x1b[2J\x1b]0;owned\x07b\x9b31m",
    "carriage return": "alice\rmallory",
    "new line": 'a\n{"event":"forged","level":"error"}\nREADY=1\nSTATUS=owned',
    "header": "a\r\nX-Owned: 1\r\n\r\n<b>",
    "zero": "a\x00b",
    "direction": "a\u202egnp.exe\u202c \u2066x\u2069 \u200fb",
    "right to left": "אבג 123 (עדה)",
    "no width": "ad\u200bmin\ufeff\u00ad\u2060",
    "separators": "a\u2028b\u2029c\x85d",
    "tags": "a\U000e0001\U000e0061\U000e007f",
    "private": "\ue000\U000f0000",
    "not assigned": "\U000e0fff\uffff",
    "joined": "👩\u200d👩\u200d👧",
    "stacked": "z" + "\u0335\u0321\u0341" * 15,
    "imitation": "a\\x1b\\u202e",
    "quotes": "'\"`“”",
    "shell": "$(touch owned);`id`|a>b&c",
    "metric": 'a"} 1\nperuserd_owned{x="',
    "format": "%s%n%(name)s{0}{name!r}{}",
    "prototype": "__proto__",
    "constructor": "constructor",
    "path": "../../etc/passwd",
    "percent": "%00%0d%0a%2e%2e",
    "option": "--help",
    "spaces": "  a  ",
    "nothing but a space": " ",
}
"""Texts by what makes each of them evil. Each is valid Unicode, and so can be a user's name."""

UNSERVABLE: Final = {
    "empty": "",
    "lone surrogate": "a\ud800b\udfff",
    "long": "x" * 5_000,
    "long in bytes": "片" * 2_000,
}
"""Texts that cannot be the name of a user with a database. A command line or a server can hold them all the same."""

HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""The categories of characters that steer a terminal or change the direction of writing."""


def harmful(text: str) -> set[str]:
    """Return the harmful characters of what is shown to a person; the end of a line is none."""
    return {each for each in text if each != "\n" and unicodedata.category(each) in HARMFUL}
