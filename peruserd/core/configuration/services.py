"""Variables that Kubernetes puts into the environment of each container for each service of its namespace.

A service with the name `peruserd`, or one that begins so, has variables that look like this program's own.
"""

import re
from typing import Final

_ADDRESS: Final = r"[0-9A-Fa-f.:]+"
_NUMBER: Final = r"[0-9]+"
_TRANSPORT: Final = r"(?:tcp|udp|sctp)"
_PLACE: Final = rf"{_TRANSPORT}://.+"
_OF_A_PORT: Final = rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)"

# The endings of the names, and what such a variable has in it; a name alone can be somebody's mistake.
_FORMS: Final = tuple(
    (re.compile(rf"[A-Z0-9_]+_{ending}"), re.compile(value))
    for ending, value in (
        ("SERVICE_HOST", _ADDRESS),
        (r"SERVICE_PORT(?:_[A-Z0-9_]+)?", _NUMBER),
        ("PORT", _PLACE),
        (_OF_A_PORT, _PLACE),
        (f"{_OF_A_PORT}_PROTO", _TRANSPORT),
        (f"{_OF_A_PORT}_PORT", _NUMBER),
        (f"{_OF_A_PORT}_ADDR", _ADDRESS),
    )
)


def is_of_service(variable: str, value: str) -> bool:
    """Say whether a variable is one that tells of a service."""
    return any(name.fullmatch(variable) and found.fullmatch(value) for name, found in _FORMS)
