"""Ids of documents: what CouchDB 3.5.0 takes, and how it shows it."""

from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from peruserd.core.ownership.hashing import document_hash
from peruserd.simcluster.model import errors, ids


class Vector(msgspec.Struct):
    """Each case has bytes in hexadecimal, whether CouchDB takes them for an id, and the result of its JSON encoder."""

    bytes: str
    accepted: bool
    shown: str


# Computed by CouchDB's own modules, couch_util and jiffy, in Erlang.
VECTORS = msgspec.json.decode(
    (Path(__file__).parent.parent / "data" / "ids-3.5.0.json").read_bytes(), type=list[Vector]
)


def _id(vector: Vector) -> str:
    return ids.from_path("".join(f"%{byte:02x}" for byte in bytes.fromhex(vector.bytes)))


def _refusal(vector: Vector) -> str:
    """Return the words by which an id is refused, and nothing if it is not."""
    try:
        ids.check(_id(vector))
    except errors.RefusalError as error:
        return str(error)
    return ""


def test_an_id_is_shown_as_couchdb_shows_it() -> None:
    """Overlong forms become the character they stand for, halves of a pair one character, broken bytes U+FFFD."""
    shown = {each.bytes: ids.shown(_id(each)) for each in VECTORS}
    assert shown == {each.bytes: each.shown for each in VECTORS}


def test_an_id_is_refused_where_couchdb_refuses_it() -> None:
    """Three and four bytes pass in any combination, two only where they are not overlong."""
    refusals = {each.bytes: _refusal(each) for each in VECTORS}
    assert {each: not words for each, words in refusals.items()} == {each.bytes: each.accepted for each in VECTORS}
    assert [words for words in refusals.values() if words and "must be valid UTF-8" not in words] == []


def test_an_id_keeps_its_bytes() -> None:
    """The place in the hash space and the path are those of the bytes as sent, never as shown."""
    places = {each.bytes: ids.place(_id(each)) for each in VECTORS}
    assert places == {each.bytes: crc32(bytes.fromhex(each.bytes)) for each in VECTORS}
    assert [each for each in VECTORS if ids.from_path(ids.to_path(_id(each))) != _id(each)] == []


@pytest.mark.parametrize("document_id", ["org.couchdb.user:alice", "org.couchdb.user:zoë 😀", "a/b"])
def test_an_ordinary_id_is_shown_and_placed_as_it_is(document_id: str) -> None:
    """An id in plain UTF-8 is the same in every form."""
    ids.check(document_id)
    assert ids.shown(document_id) == ids.noted(document_id) == document_id
    assert ids.place(document_id) == document_hash(document_id)


def test_the_controls_tell_two_documents_of_one_shown_id_apart() -> None:
    """The one with the odd bytes is given as it would be in a path, and so is one that looks like a path."""
    for path in ("org.couchdb.user:%E0%81%A1lice", "org.couchdb.user:100%25", "org.couchdb.user:alice"):
        assert ids.noted(ids.from_path(path)) == path


@pytest.mark.parametrize(
    ("document_id", "reason"),
    [
        ("", "must not be empty"),
        ("_local/", "Illegal document id"),
        ("_design/", "Illegal document id"),
        ("_other", "Only reserved document ids"),
    ],
)
def test_ids_that_no_document_can_have_are_refused(document_id: str, reason: str) -> None:
    """As CouchDB words it."""
    with pytest.raises(errors.RefusalError, match=reason):
        ids.check(document_id)
