"""The check that requests can be made to a URL, by the library that makes them.

`core.configuration.hosts` knows the rules for URLs of a configuration. The library has rules of its own, for example
for the characters of international names (IDNA). Without this check its errors would come with the first request.
"""

import re
import socket
from typing import Final

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

# No name ends like this, so such a host is an address or a mistake (URL Standard, "ends in a number").
_NUMBER_LAST: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE)


def url_problem(url: str) -> str | None:
    """Return in words why no request can be made to a URL; None if requests can be made. Nothing is sent."""
    try:
        requests.Request("GET", url).prepare()
        # A session gives the unprepared URL to the connection pool, which reads it by itself.
        host = parse_url(url).host or ""
        if _NUMBER_LAST.fullmatch(host):
            socket.inet_aton(host.removesuffix("."))
    except (OSError, HTTPError, ValueError) as error:
        # Each error of `requests` is an OSError.
        return f"no request can be made to {url!r}: {error}"
    return None if host else f"no request can be made to {url!r}: it names no host"
