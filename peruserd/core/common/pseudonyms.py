"""Pseudonyms in log lines: names of users are replaced by short hashes, or left out.

Names are personal data, and a log is copied to many places. A name is in a line in many forms: as it is, in the id of a
user document, in hex in the name of a database, and each of these quoted for a URL, for HTML, for JSON, by Python or by
Erlang. Words of a server or of an error can contain any of them. So every text of a line is searched:

- for all forms of the users that the line is about, which its fields name;
- for names of user databases, and for ids of user documents that are quoted for a URL;
- for ids of user documents as they are. Their end cannot be told, so the rest of such a text is left out.

Where it is not clear what belongs to a name, too much is replaced rather than too little. A hash is no secret: who
guesses a name can compute it. So operators can find the lines of a user.
"""

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from peruserd.core.common.escaping import harmless, shown
from peruserd.core.common.names import USER_DOCUMENT_PREFIX, decode_database_name, user_name

HIDDEN: Final = "#"
"""The pseudonym that is the same for everybody."""

# 64 bits: among ten million users two have the same hash with a chance of one in 400,000.
_HEX_DIGITS: Final = 16

# These values are words of this program, whatever the users of a line are called.
_OURS: Final = frozenset(
    {"timestamp", "level", "event", "kind", "action", "advice", "finding", "copy", "listener", "instance", "logger"}
)

# So are these in an audit line. They must stay, because such a line is a record.
_OURS_IN_AUDIT: Final = _OURS | {"why", "sequence", "revision", "incomplete"}

_DOCUMENTS: Final = frozenset({"document", "documents", "position"})
_DATABASES: Final = frozenset({"database", "databases"})
_FIELDS: Final = _DOCUMENTS | _DATABASES

# A list under this key, as in a security object, has names of users.
_NAMES: Final = "names"

# JSON and Python escape by a backslash, URLs by a percent sign, and HTML by an ampersand. In queries a blank is a plus.
# Erlang writes bytes as numbers between angle brackets.
_ESCAPING: Final = ("\\", "%", "+", "&", "<<")

# A word begins here: after no letter or digit, or after an escape, whose last character is one.
_BEGIN: Final = (
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[abfnrtv0])|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
)
_END: Final = r"(?![A-Za-z0-9])"
_EDGE: Final = re.compile(r"[A-Za-z0-9]")

# A shorter name can be a part of any word, so it must be a word by itself. So must a shorter prefix.
_MIN_PART: Final = 6

# Private characters stand for pseudonyms until a text is searched whole. A text cannot bring its own.
_FIRST_MARK: Final = 0xF0000
_MARKS: Final = re.compile("[\U000f0000-\U000ffffd]")

# Shorter hex is more often a number than a name.
_MIN_HEX: Final = 8

# An id that was quoted once or more often, in a query after a quotation mark. The third part is quoted as usual. What
# follows it can belong to the name if somebody quotes less.
_QUOTED_ID: Final = re.compile(
    r"(%(?:25)*22)?(org\.couchdb\.user%(?:25)*3A)([A-Za-z0-9_.~%+-]*)([^\s\"?<>\\]*)", re.IGNORECASE
)
_PUNCTUATION: Final = frozenset("'):;,.]}&/")
_JSON: Final = json.JSONDecoder(strict=False)


def _as_erlang(text: str) -> str:
    """Return the bytes of a text as Erlang shows them where some cannot be printed."""
    return ",".join(map(str, text.encode("utf-8", "surrogatepass")))


# The colon can be quoted for HTML or JSON.
_PLAIN_ID: Final = re.compile(
    r"org\.couchdb\.user(?::|&#0*58;|&#x0*3a;|&colon;|\\u003a|\\x3a)|" + _as_erlang(USER_DOCUMENT_PREFIX) + ",?",
    re.IGNORECASE,
)


def hashed(name: str) -> str:
    """Return the pseudonym of a user: a sign and the first digits of the SHA-256 of the name's UTF-8."""
    return HIDDEN + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HEX_DIGITS]


class Pseudonyms:
    """Replaces the names of users in log lines. `prefix` is that of their databases, `pseudonym` makes a pseudonym."""

    def __init__(self, prefix: str, pseudonym: Callable[[str], str] = hashed) -> None:
        self._prefix = prefix
        self._pseudonym = pseudonym
        begin = _BEGIN if len(prefix) < _MIN_PART else ""
        self._database = re.compile(rf"{begin}({''.join(map(_quoted_or_not, prefix))})([0-9a-fA-F]+)")

    def in_place_of_names(self, line: Mapping[str, object]) -> dict[str, object]:
        """Return the values of a line without any user's name."""
        names = frozenset(self._names(line))
        ours = _OURS_IN_AUDIT if line.get("event") == "audit" else _OURS
        return {key: value if key in ours else self._of_value(key, value, names) for key, value in line.items()}

    def _names(self, line: Mapping[str, object]) -> Iterator[str]:
        """Return the users that the fields of a line name."""
        for key in _FIELDS.intersection(line):
            yield from (name for each in _texts(line[key]) if (name := self._named_by(key, each)))

    def _named_by(self, key: str, text: str) -> str | None:
        return user_name(text) if key in _DOCUMENTS else decode_database_name(self._prefix, text)

    def _of_value(self, key: str, value: object, names: frozenset[str]) -> object:
        match value:
            case str() if key in _FIELDS and (name := self._named_by(key, value)) is not None:
                return (USER_DOCUMENT_PREFIX if key in _DOCUMENTS else self._prefix) + self._pseudonym(name)
            case str():
                return self._searched(value, names)
            case Mapping():
                return {self._searched(str(of), names): self._of_value(of, each, names) for of, each in value.items()}
            case list() | tuple() if key == _NAMES:
                return [self._pseudonym(each) if isinstance(each, str) else each for each in value]
            case list() | tuple() | set() | frozenset():
                return [self._of_value(key, each, names) for each in value]
            case _:
                return value

    def _searched(self, text: str, names: frozenset[str]) -> str:
        marked: list[str] = []

        def mark(pseudonym: str) -> str:
            marked.append(pseudonym)
            return chr(_FIRST_MARK + len(marked) - 1)

        found = _MARKS.sub("?", text)
        # The ends of these can be told. They come first, because a known name can be the beginning of another one.
        found = self._database.sub(lambda match: match[1] + mark(self._of_hex(match[2])), found)
        found = _QUOTED_ID.sub(lambda match: self._of_quoted(match, mark), found)
        for name in sorted(names, key=len, reverse=True):
            found = _without(found, name, partial(mark, self._pseudonym(name)))
        for each in _PLAIN_ID.finditer(found):
            if not _MARKS.match(found, each.end()):
                found = found[: each.end()] + mark(HIDDEN)
                break
        return _MARKS.sub(lambda match: marked[ord(match[0]) - _FIRST_MARK], found) if marked else found

    def _of_hex(self, digits: str) -> str:
        try:
            return self._pseudonym(bytes.fromhex(digits).decode())
        except ValueError:
            # No user's database, or one of another program's naming.
            return self._pseudonym(f"0x{digits}")

    def _of_quoted(self, match: re.Match[str], mark: Callable[[str], str]) -> str:
        """Return a quoted id with its pseudonym. If the name's end is not clear, what follows is left out."""
        before, prefix, quoted, after = match[1] or "", match[2], match[3], match[4]
        times = prefix.count("25") + 1
        name = _of_query(quoted, times) if before else _unquoted(quoted, times)
        if name is None or not (before or _PUNCTUATION.issuperset(after)):
            return before + prefix + mark(HIDDEN)
        return before + prefix + mark(self._pseudonym(name)) + after


def _quoted_or_not(character: str) -> str:
    """Return a pattern for a character of a prefix, as it is or quoted for a URL once or more often, or for JSON."""
    if character.isalnum() or character in "-_":
        return character
    return rf"(?:\\?{re.escape(character)}|%(?:25)*(?i:{ord(character):02x}))"


def _unquoted(text: str, times: int) -> str:
    for _ in range(times):
        text = unquote(text)
    return text


def _of_query(text: str, times: int) -> str | None:
    """Return the name in the query of a request: a text in JSON until a quotation mark; None if there is none."""
    for _ in range(times):
        text = unquote_plus(text)
    try:
        name, _ = _JSON.raw_decode(f'"{text}')
    except ValueError:
        return None
    return str(name)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (each for each in value if isinstance(each, str))


def _without(text: str, name: str, pseudonym: Callable[[], str]) -> str:
    """Return a text with each form of a name replaced."""
    # All but the first forms have one of these characters. Most texts have none, and the forms take time to make.
    is_plain = not any(each in text for each in _ESCAPING)
    for each, is_hex in _plain_forms(name) if is_plain else _forms(name):
        # As in the text.
        form = _MARKS.sub("?", each)
        if form in text:
            bounds = (r"(?<![0-9a-f])", r"(?![0-9a-f])") if is_hex else _bounds(form)
            text = re.sub(bounds[0] + re.escape(form) + bounds[1], lambda _match: pseudonym(), text)
    return text


def _bounds(form: str) -> tuple[str, str]:
    """Return what keeps a short name from being found within other words."""
    if len(form) >= _MIN_PART:
        return "", ""
    return _BEGIN if _EDGE.match(form[0]) else "", _END if _EDGE.match(form[-1]) else ""


def _plain_forms(name: str) -> tuple[tuple[str, bool], ...]:
    """Return a name as it is, as others normalize or misread its Unicode, and in hex; each with whether it is hex."""
    encoded = name.encode("utf-8", "surrogatepass")
    # A sign or a blank alone is in most texts, and names nobody.
    is_telling = (len(name) > 1 and not name.isspace()) or name.isalnum()
    texts = {name} if is_telling else set()
    if is_telling and not name.isascii():
        texts |= {unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name), encoded.decode("latin-1")}
    digits = {encoded.hex(), encoded.hex().upper()} if 2 * len(encoded) >= _MIN_HEX else set()
    return (*((each, False) for each in sorted(texts, key=_longest_first)), *((each, True) for each in sorted(digits)))


def _longest_first(form: str) -> tuple[int, str]:
    return -len(form), form


@lru_cache(maxsize=256)
def _forms(name: str) -> tuple[tuple[str, bool], ...]:
    """Return all forms of a name, each with whether it is hex, the longest first."""
    plain = _plain_forms(name)
    once = set[str]().union(*(_written(form) for form, is_hex in plain if not is_hex))
    twice = {(form, False) for form in once.union(*map(_written, once))}
    return tuple(sorted(twice.union(plain), key=lambda form: _longest_first(form[0])))


def _written(text: str) -> set[str]:
    """Return a text as JSON, Python, Erlang, HTML, this program and URLs write it."""
    plain = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        # In a longer text Python may have to escape the other quotation mark.
        repr(f'"{text}')[2:-1],
        ascii(text)[1:-1],
        shown(text),
        harmless(text),
        quote(plain, safe=""),
        quote(plain),
        quote_plus(plain),
        html.escape(text),
        _as_erlang(text),
    }
