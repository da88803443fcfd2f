"""Templates out of files, and the mistakes that can be made in them."""

import json
from typing import Any

import msgspec
import pytest

from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.users.template_files import (
    MAX_BYTES,
    MAX_BYTES_TOGETHER,
    MAX_DOCUMENTS,
    read_templates,
)
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates

WHERE = "/etc/templates"


def read(files: dict[str, Any], *, partitioned: bool = False) -> Templates:
    """Return the templates in files, whose contents are bytes, or values to be written as JSON."""
    contents = {
        name: value if isinstance(value, bytes) else json.dumps(value).encode() for name, value in files.items()
    }
    return read_templates(contents, WHERE, partitioned=partitioned)


def problems(files: dict[str, Any], *, partitioned: bool = False) -> list[str]:
    """Return what is wrong with files."""
    with pytest.raises(ConfigError) as caught:
        read(files, partitioned=partitioned)
    return caught.value.problems


def problem_of(document: object) -> str:
    """Return what is wrong with one document."""
    (found,) = problems({"documents/a.json": document})
    prefix = f"templates.directory: {WHERE}/documents/a.json: "
    assert found.startswith(prefix)
    return found.removeprefix(prefix)


def test_nothing_is_no_template() -> None:
    """An empty directory puts nothing into databases."""
    assert read({}) == NO_TEMPLATES


def test_all_files_make_one_set() -> None:
    """Documents in the order of their ids, roles by section, options."""
    made = read(
        {
            "documents/z.json": {"_id": "a", "of": "{user}"},
            "documents/b.json": {"_id": "_design/main", "views": {"v": {"map": "function (doc) { emit(doc._id); }"}}},
            "security.json": {"admins": {"roles": ["support", "support"]}, "members": {"roles": ["audit"]}},
            "options.json": {"_revs_limit": 20},
        }
    )
    assert made == Templates(
        (
            Template("_design/main", {"views": {"v": {"map": "function (doc) { emit(doc._id); }"}}}),
            Template("a", {"of": "{user}"}),
        ),
        ("support",),
        ("audit",),
        {"_revs_limit": 20},
    )


def test_a_byte_order_mark_is_no_part_of_a_file() -> None:
    """Editors of Windows put one before a text."""
    assert read({"documents/a.json": b'\xef\xbb\xbf{"_id": "a"}'}) == Templates((Template("a", {}),))


def test_every_mistake_is_named_with_its_file() -> None:
    """All of them in one go."""
    found = problems({"documents/a.json": b"{", "documents/b.json": {}, "security.json": [], "options.json": {"x": 1}})
    assert [each.split(": ")[1].removeprefix(f"{WHERE}/") for each in found] == [
        "documents/a.json",
        "documents/b.json",
        "options.json",
        "security.json",
    ]


SOURCES = [
    {"validate_doc_update": "function () { if (name == '{user}') throw({}); }"},
    {"views": {"v": {"map": "function (doc) { emit('{user}'); }"}}},
    {"views": {"v": {"map": "function (doc) {}", "reduce": "'{database}'"}}},
    {"views": {"lib": {"x": "exports.a = '{user}';"}}},
    {"filters": {"f": "function () { return '{user}'; }"}},
    {"shows": {"s": "'{{user}}'"}},
    {"lists": {"l": "'{user}'"}},
    {"updates": {"u": "'{user}'"}},
    {"rewrites": "function () { return '{user}'; }"},
    {"indexes": {"i": {"index": "'{user}'", "analyzer": "standard"}}},
    {"lib": {"deep": {"deeper": ["{database}"]}}},
    {"language": "{user}"},
    {"views": {"{user}": {"map": "function (doc) {}"}}},
    {"anything": {"at": {"all": "{user}"}}},
]


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_filled_into_source_code(source: dict[str, Any]) -> None:
    """A name could be a program there, so such a design document is refused before anybody is served."""
    assert "it is a design document with" in problem_of({"_id": "_design/a", **source})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param({"_id": "{user}"}, "never filled in", id="id-filled"),
        pytest.param({"_id": "a:{database}"}, "never filled in", id="id-part"),
        pytest.param({"_id": "a", "k": {"{user}": 1}}, "keys are never filled in", id="key"),
        pytest.param({"_id": "a", "k": [{"a {{database}}": 1}]}, "keys are never filled in", id="key-in-list"),
        pytest.param({"a": 1}, "no _id", id="no-id"),
        pytest.param({"_id": ""}, "no _id", id="empty-id"),
        pytest.param({"_id": 7}, "no _id", id="number-id"),
        pytest.param({"_id": "_local/a"}, "local document", id="local"),
        pytest.param({"_id": "_design/"}, "_design/ and a name", id="design-without-name"),
        pytest.param({"_id": "_security"}, "_design/ and a name", id="reserved"),
        pytest.param({"_id": "x" * 513}, "512 bytes", id="long-id"),
        pytest.param({"_id": "a", "_rev": "1-a"}, "CouchDB's own", id="rev"),
        pytest.param({"_id": "a", "_deleted": True}, "CouchDB's own", id="deleted"),
        pytest.param({"_id": "a", "_x": 1}, "CouchDB's own", id="underscore"),
        pytest.param({"_id": "a", "_attachments": {}}, "can have none", id="attachments"),
        pytest.param(b"[]", "one object", id="list"),
        pytest.param(b'"a"', "one object", id="text"),
        pytest.param(b"", "not valid JSON", id="empty"),
        pytest.param(b'{"_id": "a", }', "not valid JSON", id="comma"),
        pytest.param(b'{"_id": "a"} x', "not valid JSON", id="tail"),
        pytest.param(b'{"_id": "a", "n": NaN}', "not valid JSON", id="nan"),
        pytest.param(b'{"_id": "a", "n": 1e999}', "not valid JSON", id="infinite"),
        pytest.param(b'{"_id": "a", "s": "\\ud800"}', "not valid JSON", id="surrogate"),
        pytest.param(b'{"_id": "\xff"}', "not UTF-8", id="no-utf8"),
        pytest.param(b'{"_id": "a", "k": {"x": 1, "x": 2}}', "'x' stands twice", id="twin-key"),
        pytest.param(b'{"_id": "a", "k": ' + b"[" * 64 + b"]" * 64 + b"}", "64 levels", id="deep"),
        pytest.param(b'{"_id": "a", "k": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", "64 levels", id="very-deep"),
        pytest.param({"_id": "a", "k": "x" * MAX_BYTES}, "bytes", id="large"),
        pytest.param({"_id": "a", "k": "{user}" * 1_001}, "placeholders", id="many-placeholders"),
    ],
)
def test_what_cannot_be_a_template_is_said(document: object, words: str) -> None:
    """Each mistake has one sentence, with the file's name before it."""
    assert words in problem_of(document)


def test_a_document_at_the_limit_of_nesting_is_taken() -> None:
    """The document itself is one of the 64 levels."""
    assert read({"documents/a.json": b'{"_id": "a", "k": ' + b"[" * 63 + b"1" + b"]" * 63 + b"}"}).documents


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 2**70, 10**300])
@pytest.mark.parametrize("shape", ["{}", '[0, {{"deep": {}}}]'])
def test_whole_numbers_fit_into_what_carries_them(number: int, shape: str) -> None:
    """Templates travel to listeners, so a number that cannot is a mistake at the start and not in each listener."""
    document = f'{{"_id": "a", "x": {shape.format(number)}}}'.encode()
    assert "does not fit into 64 bits" in problem_of(document)


@pytest.mark.parametrize("number", ["18446744073709551615", "-9223372036854775808", "0", "1e300", "1e-400", "1.0"])
def test_numbers_that_are_taken_reach_every_listener(number: str) -> None:
    """Numbers reach each listener as they are."""
    templates = read({"documents/a.json": f'{{"_id": "a", "x": {number}}}'.encode()})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(templates), type=Templates) == templates


@pytest.mark.parametrize("number", ["-0.0", "-0e5", "5e-324", "-1e-310", "-1e-400"])
def test_numbers_come_back_as_they_are(number: str) -> None:
    """CouchDB keeps these as 0.0 (measured), so each document would pass for one that its user has changed."""
    document = f'{{"_id": "a", "x": [{number}]}}'.encode()
    assert "which CouchDB keeps as 0.0" in problem_of(document)


def test_no_two_files_have_one_document() -> None:
    """The second one is named, and the first one with it."""
    (found,) = problems({"documents/a.json": {"_id": "x"}, "documents/b.json": {"_id": "x", "n": 1}})
    assert "documents/b.json" in found
    assert "that of documents/a.json already" in found


def test_number_and_size_are_bounded() -> None:
    """Each listener holds all of them, and one request writes them."""
    (many,) = problems({f"documents/{n}.json": {"_id": str(n)} for n in range(MAX_DOCUMENTS + 1)})
    assert "101 documents" in many
    (large,) = problems({f"documents/{n}.json": {"_id": str(n), "x": "y" * (MAX_BYTES - 99)} for n in range(5)})
    assert f"{MAX_BYTES_TOGETHER:,}" in large


@pytest.mark.parametrize("document_id", ["plain", ":a", "a:", "é"])
def test_ids_fit_into_partitioned_databases(document_id: str) -> None:
    """Each document but a design document belongs to a partition there."""
    assert "partition:name" in problems({"documents/a.json": {"_id": document_id}}, partitioned=True)[0]
    good = {"documents/a.json": {"_id": "a:b"}, "documents/b.json": {"_id": "_design/b"}}
    assert len(read(good, partitioned=True).documents) == 2


@pytest.mark.parametrize(
    ("security", "words"),
    [
        ({"admin": {}}, "'admin'"),
        ({"admins": []}, "an object"),
        ({"admins": {"roles": "x"}}, "a list"),
        ({"admins": {"roles": [""]}}, "not empty"),
        ({"members": {"roles": [1]}}, "a list"),
        ({"members": {"roles": ["_admin"]}}, "CouchDB's"),
        ({"members": {"roles": ["{user}"]}}, "never filled in"),
        ({"members": {"groups": []}}, "'groups'"),
        ({"members": {"names": ["bob"]}}, "names are not allowed"),
    ],
)
def test_only_roles_are_added_to_databases(security: object, words: str) -> None:
    """A name could be taken by anybody who signs up, and would open every database."""
    assert words in problems({"security.json": security})[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"revs_limit": 1}, "'revs_limit'"),
        ({"_security": 1}, "'_security'"),
        ({"_revs_limit": 0}, "whole number"),
        ({"_revs_limit": True}, "whole number"),
        ({"_revs_limit": "5"}, "whole number"),
        ({"_revs_limit": 1.5}, "whole number"),
        ({"_revs_limit": 1 << 31}, "whole number"),
    ],
)
def test_options_are_those_that_databases_have(options: object, words: str) -> None:
    """Numbers within what CouchDB takes."""
    assert words in problems({"options.json": options})[0]
