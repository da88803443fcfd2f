"""User documents, user names and the names of user databases.

The name of a user database is the prefix and two hexadecimal digits for each byte of the user name's UTF-8, always,
so that two users never share a database (CouchDB's built-in couch_peruser writes one digit for a byte below 0x10, and
two of its users can). This module never decides whether a database *should* exist, only what it is called.
"""

import re
from typing import Final

USER_DOCUMENT_PREFIX: Final = "org.couchdb.user:"

# CouchDB 3.5 answers `database_name_too_long` past this many bytes in one path segment.
MAX_SEGMENT_BYTES: Final = 238

MAX_ID_CHARACTERS: Final = len(USER_DOCUMENT_PREFIX) + MAX_SEGMENT_BYTES
"""Characters in the id of a user document above which no prefix leaves room for its database."""

# CouchDB's own rule for the names of databases (couch_db:validate_dbname), applied to what a prefix may contribute.
_PREFIX_RULE: Final = re.compile(r"[a-z][a-z0-9_$()+/-]*")
_HEX_RULE: Final = re.compile(r"(?:[0-9a-f]{2})+")


class UnservableNameError(ValueError):
    """A user name for which no database can exist, now or later; trying again cannot help."""


def user_name(document_id: str) -> str | None:
    """Return the user name of a user document, or None where the id is not a user document's.

    The name is whatever follows `org.couchdb.user:`; it can be empty, contain slashes and any other character.
    """
    if not document_id.startswith(USER_DOCUMENT_PREFIX):
        return None
    return document_id[len(USER_DOCUMENT_PREFIX) :]


def user_document_id(name: str) -> str:
    """Return the id of the user document of the user `name`."""
    return USER_DOCUMENT_PREFIX + name


def advice_on_id(name: str) -> str | None:
    """Return what to say of a name that nobody has and that looks like the id of a user document; None otherwise."""
    if not name.startswith(USER_DOCUMENT_PREFIX):
        return None
    return f"a name is given without {USER_DOCUMENT_PREFIX!r}, which begins the id of its document"


def is_unicode(name: str) -> bool:
    """Say whether a text can be written in UTF-8; Python makes surrogates of other bytes of a command line."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Raise ValueError, saying what is allowed, unless database names may begin with `prefix`.

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

    Injective: different names give different databases. Raises UnservableNameError for the empty name, for text that
    has no UTF-8 (lone surrogates) and for a name longer than `max_name_bytes(prefix)`.
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
    """Return the user name whose database is called `database`, or None where it is no user's.

    The exact inverse of `database_name`: None for another prefix, an odd number of digits, capital digits, bytes that
    are not UTF-8 and names past the limit. A database for which this is None must never be touched.
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
