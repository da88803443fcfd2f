"""Hosts, as URLs and addresses to listen on name them."""

import ipaddress
import re
from typing import Final

# Names that containers have in their networks can hold an underscore.
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)


def is_host(text: str) -> bool:
    """Say whether a text can be the name or the address of a host, without port and brackets.

    Libraries raise errors of many kinds about any other text, some of them only with the first request.
    """
    try:
        if ":" in text:
            ipaddress.IPv6Address(text)
            return True
        # A name in another script has this form on the wire. Empty and overlong labels are errors.
        return _NAME.fullmatch(text.encode("idna").decode("ascii")) is not None
    except ValueError:
        return False
