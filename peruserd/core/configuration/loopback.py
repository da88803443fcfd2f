"""The checks of who asks for a page: under which name, and whether it was a program of this machine.

Any web site can make a browser on this machine send such requests. The site's own name can resolve to 127.0.0.1 (DNS
rebinding), or a page of the site can name the address. Both show in the headers.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})

# A proxy on this machine that forwards requests usually adds one of these headers.
_FORWARDING: Final = (
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    *(f"x-forwarded-{what}" for what in ("for", "host", "port", "prefix", "proto", "scheme", "server")),
)

# A browser's values of `Sec-Fetch-Site` for a request from a page of another site.
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})

# A host and a port, as RFC 9112 and RFC 3986 have them: an IPv6 address in brackets, or a name or IPv4 address.
_HOST: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(:[0-9]*)?")

_PORT: Final = re.compile(r":[0-9]*$")

HEADERS: Final = ("host", "origin", "sec-fetch-site", *_FORWARDING)
"""The headers that `is_from_elsewhere` reads."""


def is_loopback(host: str) -> bool:
    """Say whether a name or an address, without port and brackets, is a loopback one."""
    host = host.lower().removesuffix(".")
    if host in _NAMES or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def host_problem(hosts: Sequence[str], *, needs_host: bool) -> str | None:
    """Return in words why a request with these `Host` headers must be refused with 400; None if it may not be.

    If a request has two of them, a proxy and this program may each use another one. `needs_host` is true from HTTP/1.1
    on. The rules are those of RFC 9112, section 3.2.
    """
    if len(hosts) > 1:
        return f"the request has {len(hosts)} Host headers, and may have one"
    if not hosts:
        return "the request has no Host header" if needs_host else None
    is_one = _HOST.fullmatch(hosts[0].strip(" \t")) is not None
    return None if is_one else "the Host of the request is no name or address with a port"


def unknown_host(hosts: Sequence[str], names: Collection[str]) -> str | None:
    """Return in words why a page is not served under the `Host` of a request; None if it is.

    A web site can give this machine's address a name of its own, and read the answers with a page of that name (DNS
    rebinding). So a name must be known: one of loopback, or one of `names`, which are in lower case. An address is
    always fine, because nobody can make it lead elsewhere. Without a Host, the client is no browser.
    """
    for host in hosts:
        name = host.strip(" \t").lower()
        name = _PORT.sub("", name).removeprefix("[").removesuffix("]").removesuffix(".")
        if not is_loopback(name) and not _is_address(name) and name not in names:
            return "no page is served under this name; [http] hosts in the configuration can name it"
    return None


def is_from_elsewhere(headers: Mapping[str, str]) -> str | None:
    """Return in words why a request was not made by a program of this machine; None if nothing says so.

    The names in `headers` are in lower case. A request without `host` is not from a browser.
    """
    if (host := headers.get("host")) is not None and not _is_of_loopback(f"//{host}"):
        return "the Host of the request is not this machine's loopback"
    if (origin := headers.get("origin")) is not None and not _is_of_loopback(origin):
        return "the request comes from a page of another site"
    if any(name in headers for name in _FORWARDING):
        return "the request was passed on by a proxy"
    if headers.get("sec-fetch-site", "").lower() in _OTHER_SITES:
        return "the request comes from a page of another site"
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_of_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)
