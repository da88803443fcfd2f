"""User documents, user names and the names of user databases.

The name of a user database is the prefix, followed by two hexadecimal digits for each byte of the user name's UTF-8. So
two users never share a database. (CouchDB's built-in couch_peruser writes one digit for a byte below 0x10, so two of
its users can.) This module never decides whether a database *should* exist, only its name.
"""

import re
from typing import Final

USER_DOCUMENT_PREFIX: Final = "org.couchdb.user:"

# CouchDB 3.5 answers `database_name_too_long` above this many bytes in one path segment.
MAX_SEGMENT_BYTES: Final = 238

MAX_ID_CHARACTERS: Final = len(USER_DOCUMENT_PREFIX) + MAX_SEGMENT_BYTES
"""The longest id of a user document, in characters. A longer name has no database under any prefix."""

# CouchDB's own rule for the names of databases (couch_db:validate_dbname), applied to the prefix.
_PREFIX_RULE: Final = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_HEX_RULE: Final = re.compile(r"(?:[0-9a-f]{2})+")


class UnservableNameError(ValueError):
    """No database can ever exist for a user name, so another try is useless."""


def user_name(document_id: str) -> str | None:
    """Return the user name of a user document; None if the id is not one of a user document.

    The name is everything after `org.couchdb.user:`. It can be empty, and can contain slashes and any other character.
    """
    if not document_id.startswith(USER_DOCUMENT_PREFIX):
        return None
    return document_id[len(USER_DOCUMENT_PREFIX) :]


def user_document_id(name: str) -> str:
    """Return the id of the user document of the user `name`."""
    return USER_DOCUMENT_PREFIX + name


def advice_on_id(name: str) -> str | None:
    """Return advice on a name that no user has, if it looks like the id of a user document; None otherwise."""
    if not name.startswith(USER_DOCUMENT_PREFIX):
        return None
    return f"a name is given without {USER_DOCUMENT_PREFIX!r}, which begins the id of its document"


def is_unicode(name: str) -> bool:
    """Say whether a text can be written in UTF-8. Other bytes of a command line become surrogates in Python."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Raise ValueError, with the rule in words, unless database names may begin with `prefix`.

    The rule is CouchDB's: a lower-case letter first, then lower-case letters, digits and `_$()+-/`.
    The prefix must leave room for a user name of at least one byte.
    """
    if not _PREFIX_RULE.fullmatch(prefix):
        raise ValueError(
            "a database prefix begins with a letter a-z and goes on with a-z, 0-9 and any of _ $ ( ) + - /"
        )
    if _last_segment_bytes(prefix) + 2 > MAX_SEGMENT_BYTES:
        raise ValueError(f"a database prefix leaves room for a name below {MAX_SEGMENT_BYTES} bytes")


def max_name_bytes(prefix: str) -> int:
    """Return how many bytes of UTF-8 a user name may have under `prefix` (115 under `userdb-`)."""
    return (MAX_SEGMENT_BYTES - _last_segment_bytes(prefix)) // 2


def database_name(prefix: str, name: str) -> str:
    """Return the name of the database of the user `name`.

    Different names always give different databases. Raises UnservableNameError for the empty name, for text without a
    UTF-8 form (lone surrogates), and for a name longer than `max_name_bytes(prefix)`.
    """
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UnservableNameError("the user name is not valid Unicode") from error
    if not encoded:
        raise UnservableNameError("the user name is empty")
    limit = max_name_bytes(prefix)
    if len(encoded) > limit:
        raise UnservableNameError(
            f"the user name has {len(encoded)} bytes of UTF-8; with the prefix {prefix!r} CouchDB allows {limit}"
        )
    return prefix + encoded.hex()


def decode_database_name(prefix: str, database: str) -> str | None:
    """Return the name of the user whose database this is; None if it is no user's database.

    It is the exact inverse of `database_name`. It returns None for another prefix, an odd number of digits, capital
    digits, bytes that are not UTF-8, and names above the limit. Such a database must never be touched.
    """
    digits = database.removeprefix(prefix)
    if not database.startswith(prefix) or not _HEX_RULE.fullmatch(digits):
        return None
    if len(digits) // 2 > max_name_bytes(prefix):
        return None
    try:
        return bytes.fromhex(digits).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _last_segment_bytes(prefix: str) -> int:
    return len(prefix.rpartition("/")[2])
