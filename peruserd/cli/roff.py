"""Manual pages in roff, the language of `man`. Only what these pages need, as man(7) describes it."""

import re
import textwrap
from typing import Final

# Outside of ASCII `\[uXXXX]` is understood by groff and mandoc in every locale. The characters of the table would be
# typeset as others, such as a hyphen for the minus of an option.
_ESCAPES: Final = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def plain(text: str) -> str:
    """Return text so that it is shown as it is."""
    escaped = "".join(_ESCAPES.get(each) or (each if each.isascii() else f"\\[u{ord(each):04X}]") for each in text)
    # A dot at the beginning of a line would make a request of it, and lines are broken between words.
    return re.sub(r"(?<!\S)(?=\.)", r"\\&", escaped)


def bold(text: str) -> str:
    """Return words that are typed as they stand."""
    return f"\\fB{plain(text)}\\fR"


def italic(text: str) -> str:
    """Return words that stand for others."""
    return f"\\fI{plain(text)}\\fR"


class Page:
    """A manual page that grows from its head to its end. `words` and terms are results of the functions above."""

    def __init__(self, name: str, section: int, *, source: str, manual: str) -> None:
        # The date is left out: a page is the same whenever it is made. Names of keys are not to be hyphenated.
        head = f'.TH "{plain(name.upper())}" "{section}" "" "{plain(source)}" "{plain(manual)}"'
        self._lines = [head, ".nh", ".ad l"]

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f'.SH "{plain(title)}"')

    def subsection(self, words: str) -> None:
        """Begin a part of a section."""
        self._lines.append(f'.SS "{words}"')

    def paragraph(self, words: str) -> None:
        """Add a paragraph, whose lines are filled."""
        self._lines += [".PP", *_wrapped(words)]

    def text(self, words: str) -> None:
        """Add the first paragraph of a section."""
        self._lines += _wrapped(words)

    def item(self, term: str, words: str) -> None:
        """Add a term, and a paragraph about it, which is indented."""
        self._lines += [".TP", term, *_wrapped(words)]

    def example(self, text: str) -> None:
        """Add plain lines that are kept as they are."""
        self._lines += [".RS 4", ".nf", plain(text), ".fi", ".RE"]

    def __str__(self) -> str:
        """Return the whole page."""
        return "\n".join(self._lines) + "\n"


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(words, 78, break_long_words=False, break_on_hyphens=False)
