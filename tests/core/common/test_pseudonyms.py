"""No form of a user's name is left in a line, and everything else is."""

import html
import json
import re
import unicodedata
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.escaping import harmless, shown
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.common.pseudonyms import HIDDEN, Pseudonyms, hashed
from tests.evil_names import EVIL, UNSERVABLE

PREFIX = "userdb-"
PSEUDONYMS = Pseudonyms(PREFIX)
# A sign or a blank alone is in most texts, and so are few digits. They name nobody.
TELLING = {what: name for what, name in EVIL.items() if len(name.strip()) > 1 and len(name.encode()) > 3}

FORMS: dict[str, Callable[[str], str]] = {
    "database": lambda name: database_name(PREFIX, name),
    "path of a database": lambda name: f"GET /{quote(database_name(PREFIX, name), safe='')}/_security: 500",
    "path of a shard": lambda name: f"GET /shards%2F00000000-7fffffff%2F{database_name(PREFIX, name)}.1700000000: 404",
    "digits alone": lambda name: f"digits {name.encode().hex()}.",
    "document": user_document_id,
    "path of a document": lambda name: f"GET /_users/{quote(user_document_id(name), safe='')}: 500 error",
    "query": lambda name: f"/_users?{urlencode({'startkey': json.dumps(user_document_id(name)), 'limit': 1})}",
    "name": lambda name: name,
    "sentence": lambda name: f"the user {name} is not welcome",
    "quoted name": lambda name: f"/{quote(name, safe='')}/",
    "quoted in a query": lambda name: f"?name={quote_plus(name)}",
    "JSON": lambda name: json.dumps({"reason": name}),
    "JSON in Unicode": lambda name: json.dumps({"reason": name}, ensure_ascii=False),
    "JSON of an id": lambda name: json.dumps({"id": user_document_id(name)}),
    "Python": lambda name: repr(ValueError(name)),
    "Python of JSON": lambda name: repr(json.dumps(name)),
    "Python of JSON in Unicode": lambda name: repr(json.dumps({"reason": name}, ensure_ascii=False)),
    "HTML": lambda name: f"<h1>No {html.escape(name)}</h1>",
    "Erlang": lambda name: f"{{badarg,<<{','.join(map(str, name.encode()))}>>}}",
    "misread": lambda name: f"no {name.encode().decode('latin-1')}",
    "composed": lambda name: f"no {unicodedata.normalize('NFC', name)}",
    "decomposed": lambda name: f"no {unicodedata.normalize('NFD', name)}",
    "within words": lambda name: f"user_{name}_file",
    "shown": lambda name: f"no such user: {shown(name)}",
    "harmless": lambda name: harmless(f"no such user: {name}"),
}


def forms_of(name: str) -> set[str]:
    """Return all forms of a name."""
    texts = {name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}
    others = {name.encode().decode("latin-1"), quote(name, safe=""), name.encode().hex(), name.encode().hex().upper()}
    return {make(name) for make in FORMS.values()} | texts | others | {",".join(map(str, name.encode()))}


@pytest.mark.parametrize("name", TELLING.values(), ids=TELLING)
def test_no_form_of_a_name_is_left_in_a_line_about_its_user(name: str) -> None:
    """The line says by one of its fields whom it is about, and its other texts can have any form."""
    leaks = forms_of(name)
    for key, value in (("document", user_document_id(name)), ("database", database_name(PREFIX, name))):
        for form, make in FORMS.items():
            line = PSEUDONYMS.in_place_of_names({"event": "failed", key: value, "error": make(name)})
            assert line[key] == value[: value.index(":") + 1 if key == "document" else len(PREFIX)] + hashed(name), form
            assert [each for each in leaks if each in str(line["error"])] == [], (form, line["error"])
            assert hashed(name) in str(line["error"]), form
            assert line["event"] == "failed", form


@pytest.mark.parametrize("name", EVIL.values(), ids=EVIL)
def test_addresses_name_nobody_although_the_line_says_not_whom_it_is_about(name: str) -> None:
    """The end of these forms can be told, so the hash is that of the user."""
    for form in ("database", "path of a database", "path of a shard", "path of a document", "query"):
        error = str(PSEUDONYMS.in_place_of_names({"error": FORMS[form](name)})["error"])
        assert hashed(name) in error, form
        assert name.encode().hex() not in error, form
        assert quote(user_document_id(name), safe="") not in error, form


ADDRESSES = {
    # What a client, a proxy or a server can make of one path.
    "quoted in small letters": "GET /_users/org.couchdb.user%3aann%20lee: 500",
    "quoted twice": "GET /_users/org.couchdb.user%253Aann%2520lee: 500",
    "quoted thrice": "GET /_users/org.couchdb.user%25253Aann%252520lee: 500",
    "in brackets": "no answer (/_users/org.couchdb.user%3Aann%20lee), (again)",
    "query": "GET /_users/_all_docs?startkey=%22org.couchdb.user%3Aann+lee%22&limit=1",
    "query quoted twice": "GET /_users/_all_docs?startkey=%2522org.couchdb.user%253Aann%2Blee%2522&limit=1",
    "database": "GET /userdb-616e6e206c6565: 500",
    "database in capitals": "GET /userdb-616E6E206C6565: 500",
    "database in a name": "no file tmp_userdb-616e6e206c6565_1.couch",
    "database behind a backslash": "GET \\/userdb-616e6e206c6565: 500",
}


@pytest.mark.parametrize("words", ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_names_a_user_by_the_hash_however_it_is_written(words: str) -> None:
    """So lines of one user are found by one hash, and what is beside the name stays."""
    error = str(PSEUDONYMS.in_place_of_names({"error": words})["error"])
    assert error.count(hashed("ann lee")) == 1
    assert re.split(r"#[0-9a-f]{16}", error)[0] in words
    assert re.split(r"#[0-9a-f]{16}", error)[1] in words
    assert not re.search("ann|lee|616e6e", error.replace(hashed("ann lee"), ""), re.IGNORECASE)


@pytest.mark.parametrize(
    "words",
    [
        "GET /_users/org.couchdb.user%3Aann@lee.example: 500",
        "GET /_users/org.couchdb.user%3Aann$lee",
        "GET /_users/org.couchdb.user%3A片lee: 500",
        "GET /_users/org.couchdb.user%3Aann/lee: 500",
        "GET /_users/_all_docs?key=%22org.couchdb.user%3Aann@lee%22",
        "org.couchdb.user&#58;ann lee",
        "org.couchdb.user&#x3A;ann lee",
        "org.couchdb.user\\u003aann lee",
        "{not_found,<<111,114,103,46,99,111,117,99,104,100,98,46,117,115,101,114,58,97,110,110,195,169>>}",
    ],
)
def test_nothing_of_a_name_is_left_where_its_end_is_not_clear(words: str) -> None:
    """Somebody quotes less or in another way than this program does."""
    error = str(PSEUDONYMS.in_place_of_names({"error": words})["error"])
    assert HIDDEN in error
    assert not re.search("ann|lee|片|195|97,110", error)


def test_words_of_an_audit_line_stay_whatever_its_user_is_called() -> None:
    """The line is a record, and a user could be called like a word of it."""
    for name in ("live", "audit", "create", "1-967a00dff5e02add41819138abb3284d", "5984"):
        words = {"action": "create", "why": "live", "sequence": "5984-g1AAAA", "revision": name}
        line = {"event": "audit", "document": user_document_id(name), **words}
        assert PSEUDONYMS.in_place_of_names(line) == {**line, "document": f"org.couchdb.user:{hashed(name)}"}


def test_names_in_a_security_object_are_replaced() -> None:
    """They can be users that no other field of the line names. Roles are no users."""
    found = {"admins": {"names": ["ann", 1], "roles": ["_admin"]}, "members": {"names": [], "roles": ["ann"]}}
    line = PSEUDONYMS.in_place_of_names({"found": [found]})
    assert line == {"found": [{**found, "admins": {"names": [hashed("ann"), 1], "roles": ["_admin"]}}]}


def test_the_place_of_a_scan_is_a_user() -> None:
    """A scan goes through ids of documents, and begins and ends elsewhere."""
    assert PSEUDONYMS.in_place_of_names({"position": "org.couchdb.user:ann"}) == {
        "position": f"org.couchdb.user:{hashed('ann')}"
    }
    for position in ("", "_design/_auth", None, 7):
        assert PSEUDONYMS.in_place_of_names({"position": position}) == {"position": position}


def test_a_text_full_of_names_is_searched_whole() -> None:
    """A server can repeat an id as often as it likes."""
    text = "org.couchdb.user:ann " * 3_000
    line = PSEUDONYMS.in_place_of_names({"document": "org.couchdb.user:ann", "error": text})
    assert line["error"] == f"org.couchdb.user:{hashed('ann')} " * 3_000


@pytest.mark.parametrize("name", TELLING.values(), ids=TELLING)
def test_after_an_id_of_an_unknown_user_the_rest_is_left_out(name: str) -> None:
    """Nothing marks the end of the name, which can hold anything."""
    words = f"no access to {user_document_id(name)}, sorry"
    assert PSEUDONYMS.in_place_of_names({"error": words}) == {"error": "no access to org.couchdb.user:#"}
    known = PSEUDONYMS.in_place_of_names({"document": user_document_id(name), "error": f"{words}; {words}"})
    expected = f"no access to org.couchdb.user:{hashed(name)}, sorry"
    assert known["error"] == f"{expected}; {expected}"


def test_the_texts_within_a_value_are_searched_as_well() -> None:
    """A traceback is a list of tables with lists in them."""
    value = {"exception": [{"exc_value": "PUT /userdb-616e6e", "frames": (1, None, {"userdb-616e6e": 2})}]}
    ann = "userdb-" + hashed("ann")
    expected = {"exception": [{"exc_value": f"PUT /{ann}", "frames": [1, None, {ann: 2}]}]}
    assert PSEUDONYMS.in_place_of_names(value) == expected


def test_lists_of_users_are_named_by_their_pseudonyms() -> None:
    """Each of them is known for the whole line."""
    line = {"documents": ["org.couchdb.user:ann", "org.couchdb.user:bob"], "why": "bob and ann, not annie"}
    ann, bob = hashed("ann"), hashed("bob")
    assert PSEUDONYMS.in_place_of_names(line) == {
        "documents": [f"org.couchdb.user:{ann}", f"org.couchdb.user:{bob}"],
        "why": f"{bob} and {ann}, not annie",
    }


@pytest.mark.parametrize(
    "text",
    [
        "GET /_users/_changes: no answer in time from http://127.0.0.1:5984",
        "on hold: no majority answers: node1@127.0.0.1, node2@127.0.0.1",
        "cannot keep state in /var/lib/peruserd/_users~node1@127.0.0.1~00000000-7fffffff~shard.1.sqlite",
        "the database peruserd is in order",
        "userdb-",
        "userdb-template",
        "org.couchdb.user is a prefix",
        "100 % of 5 + 3 \\ & more",
        "",
    ],
)
def test_what_names_nobody_stays_as_it_is(text: str) -> None:
    """Also in a line about a user, as long as the user's name is no word of it."""
    assert PSEUDONYMS.in_place_of_names({"error": text}) == {"error": text}
    assert PSEUDONYMS.in_place_of_names({"document": "org.couchdb.user:zoe", "error": text})["error"] == text


@pytest.mark.parametrize("prefix", ["u", "app/users-", "a+b(c)$/", "userdb-"])
@pytest.mark.parametrize("quoting", [lambda text: text, lambda text: quote(text, safe="")], ids=["plain", "quoted"])
def test_any_prefix_of_databases_is_known(prefix: str, quoting: Callable[[str], str]) -> None:
    """It can have characters that mean something to a pattern, and is quoted in paths."""
    words = f"PUT /{quoting(database_name(prefix, 'ann'))}: 500"
    line = Pseudonyms(prefix).in_place_of_names({"error": words})
    assert line == {"error": f"PUT /{quoting(prefix)}{hashed('ann')}: 500"}


def test_a_name_cannot_pass_for_another_user_s_pseudonym() -> None:
    """A user who is called like a pseudonym, or like what stands for one meanwhile, gets one as everybody."""
    for name in (hashed("ann"), "a\U000f0000", "0", "1"):
        line = PSEUDONYMS.in_place_of_names(
            {"document": user_document_id(name), "error": f"{database_name(PREFIX, 'ann')} {user_document_id(name)}"}
        )
        assert line["error"] == f"userdb-{hashed('ann')} org.couchdb.user:{hashed(name)}"


def test_the_pseudonym_of_everybody_is_one() -> None:
    """So nobody can be told from anybody else."""
    hiding = Pseudonyms(PREFIX, lambda _name: HIDDEN)
    line = {"document": "org.couchdb.user:ann", "database": "userdb-616e6e", "error": "PUT /userdb-626f62: ann"}
    assert hiding.in_place_of_names(line) == {
        "document": "org.couchdb.user:#",
        "database": "userdb-#",
        "error": "PUT /userdb-#: #",
    }


@pytest.mark.parametrize("name", UNSERVABLE.values(), ids=UNSERVABLE)
def test_names_without_a_database_have_pseudonyms_too(name: str) -> None:
    """They are in ids of documents, and no Unicode at all is asked for."""
    line = PSEUDONYMS.in_place_of_names({"document": user_document_id(name), "error": name})
    assert name == "" or name not in str(line)


def test_the_hash_is_that_which_any_tool_computes() -> None:
    """`printf alice | sha256sum` begins with it."""
    assert hashed("alice") == "#2bd806c97f0e00af"


@given(st.text(), st.text(), st.text())
def test_any_texts_can_be_searched(name: str, before: str, after: str) -> None:
    """Users choose the name, and others the words around it. Nothing of that can make the log fail."""
    document = user_document_id(name)
    line = PSEUDONYMS.in_place_of_names({"document": document, "error": f"{before}{document}{after}", before: after})
    assert line["document"] == f"org.couchdb.user:{hashed(name)}"
