"""Document ids are bytes: CouchDB keeps them as they came and shows them normalised. Pure.

Here an id is text. The bytes of an id that are not UTF-8 are kept as Python's `surrogateescape` does, so every id has
one text and the other way round. CouchDB's check of an id (`couch_util:validate_utf8`) lets more pass than UTF-8 does:
overlong forms of three and four bytes, surrogates, and four bytes above the last code point. Its JSON encoder (`jiffy`
with `force_utf8`) then shows such an id as a lenient reader of UTF-8 reads it. So two documents can be shown with the
same id. Each document lies where its own bytes hash to, and a request by the shown id reaches only the document with
this very id.
"""

import re
from typing import Any, Final
from urllib.parse import quote, unquote_plus
from zlib import crc32

from peruserd.simcluster.model import errors

_ESCAPE: Final = "surrogateescape"
_REPLACEMENT: Final = "\ufffd"
_ODD: Final = re.compile("[\udc80-\udcff]")

# The bytes that CouchDB takes for UTF-8 in an id.
_LENIENT: Final = re.compile(
    rb"(?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})*"
)
# The bytes that its encoder reads as one code point, also where this is a broken one.
_CODE_POINT: Final = re.compile(
    rb"[\x00-\x7f]|[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3}|[\x80-\xff][\x80-\xbf]*"
)
# The bits of the first byte that belong to the code point, by the number of its bytes.
_LEAD_BITS: Final = {1: 0x7F, 2: 0x1F, 3: 0x0F, 4: 0x07}
_LEADS: Final = {1: range(0x80), 2: range(0xC0, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF8)}


def from_path(segments: str) -> str:
    """Return the id that a part of a path stands for."""
    return unquote_plus(segments, errors=_ESCAPE)


def to_path(document_id: str, *, safe: str = "") -> str:
    """Return an id as a part of a path."""
    return quote(document_id, safe=safe, errors=_ESCAPE)


def place(document_id: str) -> int:
    """Return where a document lies in the hash space: `crc32` of its id's own bytes."""
    return crc32(document_id.encode(errors=_ESCAPE))


def shown(document_id: str) -> str:
    """Return the id as every answer shows it."""
    if document_id.isascii() or _ODD.search(document_id) is None:
        return document_id
    raw = document_id.encode(errors=_ESCAPE)
    points = [_code_point(match[0]) for match in _CODE_POINT.finditer(raw)]
    return "".join(_combined(points))


def shown_value(value: Any) -> Any:
    """Return a JSON value with all its text as it is shown."""
    match value:
        case str():
            return shown(value)
        case list():
            return [shown_value(each) for each in value]
        case dict():
            return {shown(key): shown_value(each) for key, each in value.items()}
    return value


def noted(document_id: str) -> str:
    """Return the id as the controls give it: escaped as in a path where it has a `%` or is no UTF-8."""
    plain = "%" not in document_id and shown(document_id) == document_id
    return document_id if plain else to_path(document_id, safe=":@")


def check(document_id: str) -> None:
    """Refuse a text that CouchDB does not accept as the id of a document."""
    if not document_id:
        raise errors.illegal_id("Document id must not be empty")
    if not document_id.isascii() and not _LENIENT.fullmatch(document_id.encode(errors=_ESCAPE)):
        raise errors.illegal_id("Document id must be valid UTF-8")
    if document_id.startswith("_"):
        if document_id in ("_design/", "_local/"):
            raise errors.illegal_id(f"Illegal document id `{document_id}`")
        if not document_id.startswith(("_design/", "_local/")):
            raise errors.illegal_id("Only reserved document ids may start with underscore.")


def _code_point(raw: bytes) -> int:
    length = len(raw)
    if length not in _LEADS or raw[0] not in _LEADS[length]:
        return ord(_REPLACEMENT)
    value = raw[0] & _LEAD_BITS[length]
    for byte in raw[1:]:
        value = value << 6 | byte & 0x3F
    return value


def _combined(points: list[int]) -> list[str]:
    """Return the characters of code points, with two surrogates that belong together as one."""
    found = []
    index = 0
    while index < len(points):
        one = points[index]
        other = points[index + 1] if index + 1 < len(points) else 0
        if _is_surrogate(one) and _is_surrogate(other):
            index += 2
            if one < 0xDC00 <= other:
                found.append(chr(0x10000 + ((one & 0x3FF) << 10) + (other & 0x3FF)))
            else:
                found += [_REPLACEMENT, _REPLACEMENT]
            continue
        index += 1
        broken = _is_surrogate(one) or one in (0xFFFE, 0xFFFF) or one > 0x10FFFF
        found.append(_REPLACEMENT if broken else chr(one))
    return found


def _is_surrogate(point: int) -> bool:
    return 0xD800 <= point <= 0xDFFF
