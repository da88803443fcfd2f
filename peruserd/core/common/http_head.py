"""The head of an HTTP request: its bytes are parsed strictly, because any program can send them.

Only requests that read are understood, so a request with a body is refused. A refusal never quotes the request. The
form is that of RFC 9112. It is stricter where old forms are of use to attackers alone: a header that goes on in the
next line, white space before its colon, HTTP/0.9, and a target that is no path.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

MAX_HEAD_BYTES: Final = 16_384
"""The limit of a head. The longest name of a user that a database can have takes less than 1 KiB."""

MAX_HEADERS: Final = 64
"""The limit of headers. A browser behind a proxy sends some twenty."""

MAX_TARGET_BYTES: Final = 8_192
"""The limit of the path with its query."""

READING: Final = ("GET", "HEAD")
"""The methods that are understood."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rb"(%s) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_NAME: Final = re.compile(_TOKEN)
# All that is no control character; a tab is white space. White space around is taken off before, because a pattern for
# it would try each way to divide a long row of spaces.
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")
_END: Final = re.compile(rb"\n\r?\n")


class Head(msgspec.Struct, frozen=True):
    """The head of a request.

    - `path` has the percent-decoded bytes of the path, and `query` the query as it was sent.
    - `headers` has the values of each header by its name in lower case, in their order.
    - `needs_host`: whether the version of the protocol asks for a `Host`.
    """

    method: str
    path: bytes
    query: str
    headers: dict[str, tuple[str, ...]]
    needs_host: bool

    def header(self, name: str) -> str | None:
        """Return the value of a header, with those of its repetitions; None if it was not sent."""
        values = self.headers.get(name)
        return None if values is None else ", ".join(values)


class Refused(msgspec.Struct, frozen=True):
    """A request that is not answered: the status, and why."""

    status: str
    why: str


TOO_LARGE: Final = Refused("431 Request Header Fields Too Large", f"a request may have {MAX_HEAD_BYTES} bytes")


class HeadBytes:
    """The bytes of a head, as they arrive in pieces of any size."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._count = 0

    def add(self, piece: bytes) -> bool:
        """Add a piece; return whether the head is complete. Each byte is searched about once."""
        self._count += len(piece)
        if not self._received:
            # Empty lines before a request do not count (RFC 9112, section 2.2).
            piece = piece.lstrip(b"\r\n")
        searched = max(0, len(self._received) - len(b"\n\r"))
        self._received += piece
        return _END.search(self._received, searched) is not None

    @property
    def why_hopeless(self) -> Refused | None:
        """Return why no complete head can follow from these bytes; None if one can."""
        if self._count > MAX_HEAD_BYTES:
            return TOO_LARGE
        # TLS and other protocols are told apart by their first byte.
        return None if not self._received or self._received[:1].isalpha() else _bad("this is no request of HTTP")

    @property
    def is_empty(self) -> bool:
        """Say whether nothing but empty lines has arrived."""
        return not self._received

    def parse(self) -> Head | Refused:
        """Return the head, or why it is refused."""
        return parse(bytes(self._received))


def parse(received: bytes) -> Head | Refused:
    """Return the head of a request; what follows it is ignored. Raises nothing."""
    received = received.lstrip(b"\r\n")
    end = _END.search(received)
    if end is None:
        return _bad("the request has ended before its head")
    if end.start() > MAX_HEAD_BYTES:
        return TOO_LARGE
    first, *others = [line.removesuffix(b"\r") for line in received[: end.start()].split(b"\n")]
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        return _bad("the first line is no method, path and version of HTTP")
    method, target, major, minor = match.groups()
    if major != b"1":
        return Refused("505 HTTP Version Not Supported", "only HTTP/1.0 and HTTP/1.1 are understood")
    if len(target) > MAX_TARGET_BYTES:
        return Refused("414 URI Too Long", f"a path with its query may have {MAX_TARGET_BYTES} bytes")
    headers = _headers(others)
    if isinstance(headers, Refused):
        return headers
    return _whole(method.decode(), target, headers, needs_host=minor != b"0")


def _whole(method: str, target: bytes, headers: dict[str, tuple[str, ...]], *, needs_host: bool) -> Head | Refused:
    if method not in READING:
        return Refused("405 Method Not Allowed", "only GET and HEAD")
    if not target.startswith(b"/"):
        return _bad("the path does not begin with a slash")
    if "transfer-encoding" in headers or any(each.strip("0") for each in headers.get("content-length", ())):
        return _bad("a request that reads has no body")
    path, _, query = target.partition(b"?")
    return Head(method, unquote_to_bytes(path), query.decode(), headers, needs_host)


def _headers(lines: list[bytes]) -> dict[str, tuple[str, ...]] | Refused:
    if len(lines) > MAX_HEADERS:
        return Refused("431 Request Header Fields Too Large", f"a request may have {MAX_HEADERS} headers")
    headers: dict[str, tuple[str, ...]] = {}
    for line in lines:
        key, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not _NAME.fullmatch(key) or not _VALUE.fullmatch(value):
            return _bad("a header is no name and value")
        name = key.decode().lower()
        headers[name] = (*headers.get(name, ()), value.decode("latin-1"))
    return headers


def _bad(why: str) -> Refused:
    return Refused("400 Bad Request", why)
