"""The requests and answers between the HTTP server and its pages."""

from collections.abc import Callable
from typing import Final

import msgspec

from peruserd.core.common.http_head import READING, Head, Refused

OK: Final = "200 OK"
PLAIN: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

# Each answer is of this moment, is what it says it is, and is not for pages of other sites. There is no header that
# lets these read it (CORS).
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Connection", "close"),
)


class Request(msgspec.Struct, frozen=True):
    """A request of GET or HEAD. `is_gone` says whether the client has hung up."""

    head: Head
    is_gone: Callable[[], bool]


class Answer(msgspec.Struct, frozen=True):
    """An answer: its status line, its type, its body, and headers that only it has."""

    status: str
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, *, with_body: bool = True) -> bytes:
        """Return the answer as it is sent."""
        headers = (("Content-Type", self.kind), ("Content-Length", str(len(self.body))), *_HEADERS, *self.headers)
        lines = [f"HTTP/1.0 {self.status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + (self.body if with_body else b"")


Application = Callable[[Request], Answer]
"""Answers a request, in any thread."""


def refusal(refused: Refused) -> Answer:
    """Return the answer to a request that is refused."""
    # RFC 9110 asks for this header with the status 405.
    allow = (("Allow", ", ".join(READING)),) if refused.status.startswith("405") else ()
    return Answer(refused.status, PLAIN, f"{refused.why}\n".encode(), allow)


def in_words(status: str, why: str) -> Answer:
    """Return an answer that is one line of text."""
    return Answer(status, PLAIN, f"{why}\n".encode())
