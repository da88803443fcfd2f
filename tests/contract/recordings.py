"""Exchanges recorded with a real CouchDB 3.5.0 cluster, and the facts that are needed to make them again."""

from pathlib import Path
from typing import Any

import msgspec

DATA = Path(__file__).parent.parent / "data"


class Recorded(msgspec.Struct):
    case: str
    state: str
    node: int
    method: str
    path: str
    authenticated: bool
    request_headers: dict[str, str]
    body: Any
    status: int | None
    headers: dict[str, str]
    response: Any
    # `name:password` of the client, where that was not the server admin.
    credentials: str | None = None


def read_recording(name: str) -> list[Recorded]:
    """Return the exchanges of a recording, in the order in which they were made."""
    return msgspec.json.decode((DATA / name).read_bytes(), type=list[Recorded])


EXCHANGES = read_recording("transcripts-3.5.0.json")
# Leases, and the security object of a database when nodes return.
HANDING_OVER = read_recording("handing-over-3.5.0.json")
# The feed of a node's shard maps, by which a split is heard of.
DIRECTORY = read_recording("directory-3.5.0.json")
# The acts of an enemy: an open `_users`, revisions of choice, odd ids, single copies, locked accounts.
ENEMY = read_recording("enemy-3.5.0.json")

# The users that were there when the recording began; their order gives the shards' sequences.
USERS = ("alice", "bob", "carol", "dave", "eve", "frank", "grace", "heidi", "iris", "jack", "kate", "liam")

# The cases in which the client was a plain user.
BY_BOB = (
    "a user reads a database that is not theirs",
    "a plain user asks for membership",
    "a plain user asks for a shard",
    "a plain user creates a database",
)
CREDENTIALS = {"wrong password": ("adm", "bad"), **dict.fromkeys(BY_BOB, ("bob", "x"))}

# While a range was split, the recording saw it whole in its first two exchanges.
SPLIT_SEEN_FROM = 151
