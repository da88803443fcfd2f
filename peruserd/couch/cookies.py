"""The one cookie that is of interest: CouchDB's session. All others pass by unseen."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.messages import Secret

NAME: Final = "AuthSession"

# RFC 6265, 4.1.1: what a cookie's value may be made of. Nothing else can end up in a header of ours.
_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})", re.IGNORECASE)


class SessionCookie(msgspec.Struct, frozen=True):
    """A session that a server gives; `lifetime_seconds` is None where the server does not say how long it lasts."""

    value: Secret
    lifetime_seconds: float | None


def session_cookie(headers: Iterable[str]) -> SessionCookie | None:
    """Return the session that the values of these Set-Cookie headers give; None where they give none, or end one."""
    for header in headers:
        pair, *attributes = (each.strip() for each in header.split(";"))
        name, _, value = pair.partition("=")
        if name == NAME and _VALUE.fullmatch(value):
            ages = [age for each in attributes if (age := _MAX_AGE.fullmatch(each)) is not None]
            return SessionCookie(Secret(value), float(ages[0][1]) if ages else None)
    return None
