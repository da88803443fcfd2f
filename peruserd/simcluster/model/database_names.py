"""The names that a database can have. Pure."""

import re
from typing import Final

from peruserd.core.common.names import MAX_SEGMENT_BYTES
from peruserd.simcluster.model import errors
from peruserd.simcluster.options import AUTH_DATABASE

_NAME_RULE: Final = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_SYSTEM_DATABASES: Final = (AUTH_DATABASE, "_replicator", "_global_changes")


def check_database_name(name: str) -> None:
    """Refuse names that no database can have."""
    if name in _SYSTEM_DATABASES:
        return
    if not _NAME_RULE.fullmatch(name):
        raise errors.RefusalError(
            400,
            "illegal_database_name",
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters "
            "_, $, (, ), +, -, and / are allowed. Must begin with a letter.",
        )
    if any(len(segment) > MAX_SEGMENT_BYTES for segment in name.split("/")):
        raise errors.RefusalError(400, "database_name_too_long", f"At least one path segment of `{name}` is too long.")
