"""Names and addresses of hosts, in URLs and in addresses to listen on."""

import ipaddress
import re
from typing import Final

# The names of containers in their networks can contain an underscore.
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


def is_host(text: str) -> bool:
    """Say whether a text can be the name or the address of a host, without port and brackets.

    For any other text, libraries raise many kinds of errors, some of them only with the first request.
    """
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
            return True
        # IDNA is the form of a name in another script on the wire. Empty and overlong labels raise errors.
        return _NAME.fullmatch(text.encode("idna").decode("ascii")) is not None
    except ValueError:
        return False
