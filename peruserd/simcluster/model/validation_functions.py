"""Validation functions of databases, as far as they can be followed without running JavaScript. Pure.

A function whose body is one `throw` of an object with one text is obeyed. Every other function is taken to allow every
write. As in CouchDB, writes of design documents and local documents are not checked, and writes of server admins are.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from peruserd.simcluster.model import errors

_REFUSES_ALL: Final = re.compile(
    r"""\s*function\s*\w*\s*\([\w\s,]*\)\s*\{\s*throw\s*\(?\s*\{\s*(\w+)\s*:\s*(["'])(.*?)\2\s*\}\s*\)?\s*;?\s*\}\s*"""
)

_STATUS: Final = {"forbidden": 403, "unauthorized": 401}


def has_function(body: dict[str, Any]) -> bool:
    """Say whether a design document has a validation function."""
    return isinstance(body.get("validate_doc_update"), str)


def require_allowed(designs: Iterable[dict[str, Any]]) -> None:
    """Refuse a write that the validation function of one of these design documents refuses."""
    for body in designs:
        found = _REFUSES_ALL.fullmatch(body["validate_doc_update"]) if has_function(body) else None
        if found is not None:
            raise errors.RefusalError(_STATUS.get(found[1], 500), found[1], found[3])
