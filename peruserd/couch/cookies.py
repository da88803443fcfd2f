"""CouchDB's session cookie; all other cookies are ignored."""

import base64
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.common.secret import Secret

NAME: Final = "AuthSession"

# The characters of a cookie's value (RFC 6265, 4.1.1). No other value gets into a header of ours.
_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})", re.IGNORECASE)

# The account, the time in hexadecimal digits, and a signature (`couch_httpd_auth`, CouchDB 1.0 to 3.5).
_CONTENT: Final = re.compile(rb"([^:]+):[0-9A-F]{8}:.*", re.DOTALL | re.IGNORECASE)


class SessionCookie(msgspec.Struct, frozen=True):
    """A session from a server; `lifetime_seconds` is None if the server does not say how long it lasts."""

    value: Secret
    lifetime_seconds: float | None


def session_cookie(headers: Iterable[str]) -> SessionCookie | None:
    """Return the session in these values of Set-Cookie headers; None if there is none, or if they end one."""
    for header in headers:
        pair, *attributes = (each.strip() for each in header.split(";"))
        name, _, value = pair.partition("=")
        if name == NAME and _VALUE.fullmatch(value):
            ages = [age for each in attributes if (age := _MAX_AGE.fullmatch(each)) is not None]
            return SessionCookie(Secret(value), float(ages[0][1]) if ages else None)
    return None


def is_anothers(value: Secret, ours: Secret) -> bool:
    """Say whether a cookie is a session of another account than `ours`, as far as CouchDB's cookie format tells.

    A proxy that caches answers can send a cookie that was meant for somebody else.
    """
    accounts = [_account(each.value) for each in (value, ours)]
    return None not in accounts and accounts[0] != accounts[1]


def _account(value: str) -> bytes | None:
    try:
        content = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return None
    found = _CONTENT.fullmatch(content)
    return None if found is None else found[1]
