import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.ownership.hashing import document_hash, document_key, document_keys
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap

VECTORS = json.loads((Path(__file__).parents[2] / "data" / "ownership-vectors.json").read_text())
ROWS = [pytest.param(row, id=f"{row['db']}-{index}") for index, row in enumerate(VECTORS["rows"])]


def _document_id(row: dict[str, Any]) -> str:
    return bytes.fromhex(row["doc_id_utf8_hex"]).decode()


@pytest.mark.parametrize("row", ROWS)
def test_keys_are_those_that_erlang_computes(row: dict[str, Any]) -> None:
    """The key of a document is what Erlang's crc32(term_to_binary({Db, DocId})) gives."""
    assert document_key(row["db"], _document_id(row)) == row["key_crc32"]


@pytest.mark.parametrize("row", ROWS)
def test_places_in_the_hash_space_are_those_that_erlang_computes(row: dict[str, Any]) -> None:
    """The place of a document is what Erlang's crc32(DocId) gives."""
    assert document_hash(_document_id(row)) == row["doc_crc32"]


@pytest.mark.parametrize("position", range(len(VECTORS["rings"])), ids=lambda at: f"ring{len(VECTORS['rings'][at])}")
def test_owners_are_those_that_couch_peruser_computes(position: int) -> None:
    """With all hosts alive the owner is couch_peruser's, in rings of every size."""
    ring = VECTORS["rings"][position]
    for row in VECTORS["rows"]:
        ownership = Ownership.of(ShardMap.build(row["db"], ".1", {str(WHOLE_SPACE): ring}), WHOLE_SPACE, ring)
        assert ownership.owner(_document_id(row)) == row["owner_by_ring"][position]


def test_the_vectors_hold_what_is_hard_to_get_right() -> None:
    """The rows that were computed by Erlang cover several databases, bytes past ASCII, and every owner of each ring."""
    rows = VECTORS["rows"]
    assert len(rows) == 40
    assert len({row["db"] for row in rows}) > 1
    assert any(not _document_id(row).isascii() for row in rows)
    for position, ring in enumerate(VECTORS["rings"]):
        assert {row["owner_by_ring"][position] for row in rows} == set(ring)


@given(database=st.text(max_size=10), documents=st.lists(st.text(max_size=20), max_size=5))
def test_hashing_many_documents_of_a_database_gives_the_same_keys(database: str, documents: list[str]) -> None:
    """The function made for one database gives each of its documents the document's own key, in any order."""
    key = document_keys(database)
    expected = [document_key(database, document) for document in documents]
    assert [key(document) for document in reversed(documents)] == expected[::-1]
