"""Templates filled in for a user, and compared with what is found."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.configuration.choices import Grant
from peruserd.core.users.security import Access
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates, has_placeholder, same

DATABASE = "userdb-616c"

TEXTS = st.text(max_size=8) | st.sampled_from(["{user}", "{database}", "{{user}}", "a {user} b", "{", "}"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


def filled(value: Any, user: str = "al") -> Any:
    """Return a value as a user's document has it."""
    return Template("a", {"value": value}).filled(user, DATABASE)["value"]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("{user}", "al"),
        ("{database}", DATABASE),
        ("of {user} in {database}, {user}", f"of al in {DATABASE}, al"),
        ("{{user}}", "{user}"),
        ("{{{user}}}", "{{user}}"),
        ("{{database}} {user}", "{database} al"),
        ("{ user } {User} {name} {} { }", "{ user } {User} {name} {} { }"),
        ("{user", "{user"),
        ("{{user}", "{al"),
        (["{user}", {"k": ["{user}"]}], ["al", {"k": ["al"]}]),
        ({"n": 1, "b": True, "z": None, "f": 1.5}, {"n": 1, "b": True, "z": None, "f": 1.5}),
    ],
)
def test_placeholders_are_filled_in_where_a_string_says_so(written: Any, wanted: Any) -> None:
    """A placeholder in one pair of braces is filled in. In more pairs it is a text, and all else stays as it is."""
    assert filled(written) == wanted


@pytest.mark.parametrize("user", ["{database}", "{user}", '"}, {"a": "', "\\", "\u0000", "é{user}", "\\1", "\\g<1>"])
def test_a_users_name_is_a_text_and_nothing_else(user: str) -> None:
    """For any user name, the name is not filled in a second time, and it ends no string."""
    assert filled("<{user}>", user) == f"<{user}>"
    assert filled("{user}{database}", user) == user + DATABASE


def test_a_design_document_is_taken_as_it_is() -> None:
    """Its strings are source code, in which a name would be a program."""
    template = Template("_design/a", {"validate_doc_update": "function ({user}) {}"})
    assert template.filled("al", DATABASE) == template.body
    assert template.is_design
    assert not Template("a_design/", {}).is_design


@given(body=BODIES, user=st.text(max_size=6))
def test_filling_in_touches_neither_template_nor_shape(body: dict[str, Any], user: str) -> None:
    """The template is as before, and the keys of the document are its own."""
    before = msgspec.json.encode(body)
    made = Template("a", body).filled(user, DATABASE)
    assert msgspec.json.encode(body) == before
    assert made.keys() == body.keys()
    if not has_placeholder(body):
        assert same(made, body)


@given(value=JSON)
def test_a_value_is_the_same_as_it_comes_back(value: Any) -> None:
    """JSON that was written and read again is the same, whatever order keys come in."""
    again = msgspec.json.decode(msgspec.json.encode(value, order="deterministic"))
    assert same(value, again)
    assert same(again, value)
    assert not same({"a": value}, {"b": value})
    assert not same([value], [value, value])


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        (1, 1.0, True),
        (0.0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (0, None, False),
        (False, None, False),
        ("1", 1, False),
        ([], {}, False),
        ("", None, False),
        ([True], [1], False),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True),
        ({"a": [1, {"b": None}]}, {"a": [1, {}]}, False),
    ],
)
def test_values_are_told_apart_as_json_does(one: Any, other: Any, are_same: bool) -> None:  # noqa: FBT001 - a parameter
    """Python takes true for 1, and nobody else does."""
    assert same(one, other) is are_same
    assert same(other, one) is are_same


@pytest.mark.parametrize(
    ("value", "has"),
    [
        ("{user}", True),
        ("{{user}}", True),
        ({"{database}": 1}, True),
        ([[{"a": "x{user}"}]], True),
        ("{ user }", False),
    ],
)
def test_placeholders_are_found_wherever_they_stand(value: Any, has: bool) -> None:  # noqa: FBT001 - a parameter
    """A placeholder is found in keys and in values, in any number of braces."""
    assert has_placeholder(value) is has


def test_everything_counts_in_the_digest() -> None:
    """Two sets that put something else into a database are told apart, and no templates have none."""
    sets = [
        NO_TEMPLATES,
        Templates((Template("a", {"n": 1}),)),
        Templates((Template("a", {"n": 2}),)),
        Templates((Template("b", {"n": 1}),)),
        Templates(admin_roles=("x",)),
        Templates(member_roles=("x",)),
        Templates(options={"_revs_limit": 5}),
        Templates(options={"_revs_limit": 6}),
    ]
    assert len({each.digest for each in sets}) == len(sets)
    assert NO_TEMPLATES.digest == ""
    assert Templates((Template("a", {"x": 1, "y": 2}),)).digest == Templates((Template("a", {"y": 2, "x": 1}),)).digest


def test_roles_are_given_with_the_grant() -> None:
    """The rights in a database come from the grant and from the templates together."""
    templates = Templates(admin_roles=("support",), member_roles=("audit",))
    assert templates.access(Grant.MEMBER) == Access(Grant.MEMBER, ("support",), ("audit",))
    assert not templates.fill_databases
    assert Templates(options={"_revs_limit": 5}).fill_databases
