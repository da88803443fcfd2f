"""Variables that Kubernetes puts into each container's environment, for each service of its namespace.

If a service's name begins with `peruserd`, its variables look like this program's own.
"""

import re
from typing import Final

_ADDRESS: Final = r"[0-9A-Fa-f.:]+"
_NUMBER: Final = r"[0-9]+"
_TRANSPORT: Final = r"(?:tcp|udp|sctp)"
_PLACE: Final = rf"{_TRANSPORT}://.+"
_OF_A_PORT: Final = rf"PORT_{_NUMBER}_(?:TCP|UDP|SCTP)"

# The endings of the names, and the form of the values. The value is checked too, because a name alone can be a mistake.
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
    """Say whether Kubernetes has set a variable for a service."""
    return any(name.fullmatch(variable) and found.fullmatch(value) for name, found in _FORMS)
