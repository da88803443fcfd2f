"""Names and addresses of hosts, in URLs and in addresses to listen on."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

# The names of containers in their networks can contain an underscore.
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)

# The longest name that the domain name system can ask for (RFC 1035, 2.3.4), without a final dot.
_MAX_NAME: Final = 253

# The characters that the path of a request can contain unescaped.
_PATH: Final = re.compile(r"[!-~]*")


def is_host(text: str) -> bool:
    """Say whether a text can be the name or the address of a host, without port and brackets.

    For any other text, libraries raise many kinds of errors, some of them only with the first request.
    """
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
            return True
        # IDNA is the form of a name in another script on the wire. Empty and overlong labels raise errors.
        name = text.encode("idna").decode("ascii")
        return _NAME.fullmatch(name) is not None and len(name.removesuffix(".")) <= _MAX_NAME
    except ValueError:
        return False


def is_url(text: str) -> bool:
    """Say whether a text is the URL of a server: scheme, host, perhaps a port and a path. Raises ValueError.

    Credentials, a query and a fragment are not allowed. ValueError means that the text cannot even be taken apart, and
    its words may quote a password.
    """
    parts = urlsplit(text)
    return (
        parts.scheme in ("http", "https")
        and is_host(parts.hostname or "")
        and parts.port != 0
        and _PATH.fullmatch(parts.path) is not None
        and not parts.query
        and not parts.fragment
        and "@" not in text
    )
