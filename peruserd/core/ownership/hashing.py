"""The two hashes of a document: the first places it in a shard, and the second chooses its owner.

Both are CouchDB's own. So in a healthy cluster peruserd's owners are those of couch_peruser (2.1 to 3.5). Test vectors
from Erlang are in `tests/data/ownership-vectors.json`.
"""

import struct
from collections.abc import Callable
from zlib import crc32

# Erlang's external term format: version 131, a tuple of two elements, each one a binary with a four-byte length.
_TUPLE_OF_TWO = b"\x83h\x02"
_BINARY = struct.Struct(">cI")


def _binary(value: bytes) -> bytes:
    return _BINARY.pack(b"m", len(value)) + value


def document_hash(document_id: str) -> int:
    """Return where a document lies in the hash space, 0 to 2**32 - 1: `crc32` of its id (mem3_hash:crc32)."""
    return crc32(document_id.encode())


def document_key(database: str, document_id: str) -> int:
    """Return the key that chooses a document's owner, 0 to 2**32 - 1.

    `crc32(term_to_binary({Database, DocumentId}))`, as mem3:owner computes it.
    """
    return document_keys(database)(document_id)


def document_keys(database: str) -> Callable[[str], int]:
    """Return `document_key` for one database. The part that all its documents share is hashed only once."""
    start = crc32(_TUPLE_OF_TWO + _binary(database.encode()))
    pack = _BINARY.pack

    def key(document_id: str) -> int:
        encoded = document_id.encode()
        return crc32(encoded, crc32(pack(b"m", len(encoded)), start))

    return key
