"""Requests to a page that is for this machine alone.

A browser on this machine can be made to send them by any web site: by a name of its own that leads to 127.0.0.1 (DNS
rebinding), or from a page of its own that names the address. Both show in the headers.
"""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})

# A proxy on this machine that passes requests of others on says so in one of these, as a rule.
_PASSED_ON: Final = (
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    *(f"x-forwarded-{what}" for what in ("for", "host", "port", "prefix", "proto", "scheme", "server")),
)

# The words of a browser for a request that a page of another site makes.
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})

HEADERS: Final = ("host", "origin", "sec-fetch-site", *_PASSED_ON)
"""The headers that are looked at."""


def is_loopback(host: str) -> bool:
    """Say whether a name or an address, without port and brackets, is of this machine alone."""
    host = host.lower().removesuffix(".")
    if host in _NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_from_elsewhere(headers: Mapping[str, str]) -> str | None:
    """Return in words why a request was not made by a program of this machine; None where nothing says so.

    `headers` have names in lower case. A request without `host` is no browser's.
    """
    if (host := headers.get("host")) is not None and not _is_of_loopback(f"//{host}"):
        return "the Host of the request is not this machine's loopback"
    if (origin := headers.get("origin")) is not None and not _is_of_loopback(origin):
        return "the request comes from a page of another site"
    if any(name in headers for name in _PASSED_ON):
        return "the request was passed on by a proxy"
    if headers.get("sec-fetch-site", "").lower() in _OTHER_SITES:
        return "the request comes from a page of another site"
    return None


def _is_of_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)
