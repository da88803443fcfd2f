import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from peruserd.core.common.names import (
    MAX_SEGMENT_BYTES,
    UnservableNameError,
    check_prefix,
    database_name,
    decode_database_name,
    max_name_bytes,
    user_document_id,
    user_name,
)

# CouchDB's own rule (couch_db:validate_dbname), read off its documentation and not off the code under test.
COUCHDB_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*")

PREFIXES = st.from_regex(r"[a-z][a-z0-9_$()+/-]{0,30}", fullmatch=True)
# At most four bytes a character: short enough for every prefix drawn.
NAMES = st.text(min_size=1, max_size=25)
# Characters whose hexadecimal digits are easily confused when one is left out.
CONFUSABLE_NAMES = st.text(alphabet="\x00\x01\x10\x11\x12aá", min_size=1, max_size=4)


@given(prefix=PREFIXES, name=NAMES)
def test_decoding_gives_back_the_name_that_was_encoded(prefix: str, name: str) -> None:
    """Any Unicode text survives the way to a database's name and back, under any legal prefix."""
    assert decode_database_name(prefix, database_name(prefix, name)) == name


@given(first=CONFUSABLE_NAMES, second=CONFUSABLE_NAMES)
@example(first="\x01\x12", second="\x11\x02")  # both "112" to couch_peruser
def test_two_users_never_share_a_database(first: str, second: str) -> None:
    """Different names have different databases, bytes below 0x10 included."""
    assume(first != second)
    assert database_name("userdb-", first) != database_name("userdb-", second)


@given(prefix=PREFIXES, name=NAMES)
def test_couchdb_accepts_every_name_that_is_made(prefix: str, name: str) -> None:
    """A database's name keeps CouchDB's rules: its characters, and the length of each path segment."""
    database = database_name(prefix, name)
    assert COUCHDB_DATABASE_NAME.fullmatch(database)
    assert all(len(segment) <= MAX_SEGMENT_BYTES for segment in database.split("/"))


@given(prefix=PREFIXES, rest=st.one_of(st.text(alphabet="0123456789abcdefAF ", max_size=8), st.text(max_size=8)))
@example(prefix="userdb-", rest="61\n")
@example(prefix="userdb-", rest="c3")
@example(prefix="userdb-", rest="eda080")  # a lone surrogate
@example(prefix="userdb-", rest="c080")  # an overlong zero
@example(prefix="userdb-", rest="\u0666\u0661")  # digits, but not ASCII ones
def test_only_names_that_encoding_makes_are_decoded(prefix: str, rest: str) -> None:
    """If a database's name decodes to a user, encoding that user gives the same name again."""
    name = decode_database_name(prefix, prefix + rest)
    assert name is None or database_name(prefix, name) == prefix + rest


@pytest.mark.parametrize(
    "database",
    [
        pytest.param("_users", id="no-prefix"),
        pytest.param("userdb", id="part-of-the-prefix"),
        pytest.param("userdb-", id="prefix-alone"),
        pytest.param("otherdb-61", id="another-prefix"),
        pytest.param("xuserdb-61", id="prefix-not-at-the-start"),
        pytest.param("userdb-userdb-61", id="prefix-twice"),
        pytest.param("userdb-616", id="odd-number-of-digits"),
        pytest.param("userdb-6A", id="capital-digits"),
        pytest.param("userdb-6g", id="not-a-digit"),
        pytest.param("userdb-61 62", id="space-that-fromhex-would-skip"),
        pytest.param("userdb-61\n", id="line-end"),
        pytest.param("userdb-ff", id="not-utf8"),
        pytest.param("userdb-c3", id="utf8-cut-short"),
        pytest.param("userdb-eda080", id="surrogate"),
        pytest.param("userdb-" + "61" * 116, id="past-the-limit"),
    ],
)
def test_a_database_that_is_no_users_decodes_to_nothing(database: str) -> None:
    """A database that encoding never makes is no user's, so nothing ever touches it."""
    assert decode_database_name("userdb-", database) is None


@pytest.mark.parametrize(
    ("prefix", "limit"),
    [
        ("userdb-", 115),
        ("a", 118),
        ("ab", 118),
        ("abc", 117),
        ("people/", 119),
        ("people/of/", 119),
        ("people/userdb-", 115),
        ("a" * 236, 1),
    ],
)
def test_a_name_may_fill_its_path_segment_and_no_more(prefix: str, limit: int) -> None:
    """The limit counts bytes of the last path segment: at it a name is served, one byte past it never."""
    assert max_name_bytes(prefix) == limit
    database = database_name(prefix, "x" * limit)
    assert len(database.rpartition("/")[2]) <= MAX_SEGMENT_BYTES
    assert decode_database_name(prefix, database) == "x" * limit
    with pytest.raises(UnservableNameError, match=f"has {limit + 1} bytes of UTF-8.* CouchDB allows {limit}"):
        database_name(prefix, "x" * (limit + 1))
    assert decode_database_name(prefix, prefix + "78" * (limit + 1)) is None


def test_the_limit_counts_bytes_and_not_characters() -> None:
    """57 two-byte letters and one of one byte fit under `userdb-`, 58 of two bytes do not."""
    assert len(database_name("userdb-", "é" * 57 + "x")) == 7 + 230
    with pytest.raises(UnservableNameError, match="has 116 bytes"):
        database_name("userdb-", "é" * 58)


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "empty"), ("\ud800", "not valid Unicode"), ("a\udfffb", "not valid Unicode")],
)
def test_a_name_that_no_database_can_bear_is_unservable(name: str, why: str) -> None:
    """The empty name and lone surrogates are refused for good, with the reason."""
    with pytest.raises(UnservableNameError, match=why):
        database_name("userdb-", name)


@given(prefix=PREFIXES)
def test_a_prefix_of_couchdbs_characters_is_accepted(prefix: str) -> None:
    """A prefix may be anything that CouchDB allows at the beginning of a database's name."""
    check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix", ["", "_users", "1st", "-", "/users/", "User-", "userDB-", "user db", "userdb-\n", "é", "user.", "user%2F"]
)
def test_a_prefix_that_couchdb_would_refuse_is_refused(prefix: str) -> None:
    """A prefix with which no database can be made is found before the first user, with what is allowed."""
    with pytest.raises(ValueError, match="begins with a letter a-z and goes on with"):
        check_prefix(prefix)


@pytest.mark.parametrize(("prefix", "accepted"), [("a" * 236, True), ("a" * 237, False), ("a" * 300 + "/", True)])
def test_a_prefix_leaves_room_for_a_name(prefix: str, *, accepted: bool) -> None:
    """A prefix after which not one byte of a name fits is refused; earlier path segments do not count."""
    if accepted:
        check_prefix(prefix)
    else:
        with pytest.raises(ValueError, match="leaves room for a name"):
            check_prefix(prefix)


@given(name=st.text())
def test_a_user_document_and_its_user_name_each_other(name: str) -> None:
    """The name is everything after `org.couchdb.user:`, prefix-like text inside it included."""
    assert user_document_id(name) == f"org.couchdb.user:{name}"
    assert user_name(user_document_id(name)) == name


@pytest.mark.parametrize("document_id", ["", "alice", "_design/_auth", "org.couchdb.user", " org.couchdb.user:alice"])
def test_other_documents_have_no_user(document_id: str) -> None:
    """A document whose id does not begin with `org.couchdb.user:` is no user's."""
    assert user_name(document_id) is None
