"""The groups of differences when moving from couch_peruser, and the way back."""

import shlex

import pytest

from peruserd.core.audit.diagnosis import Diagnosis
from peruserd.core.audit.findings import Finding
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.migration.differences import (
    _WORDS,
    Group,
    Inventory,
    Item,
    More,
    WayBack,
    groups,
    inventory_of,
    order,
    way_back,
)
from peruserd.core.migration.settings import Peruser

EMPTY = Inventory(frozenset(), frozenset(), frozenset())


def _found(user: str, *findings: Finding) -> Diagnosis:
    return Diagnosis(user, findings)


def test_every_kind_of_finding_has_words() -> None:
    """A kind that is new in the audit is not left out here."""
    assert set(_WORDS) == {*Finding, *More}


@pytest.mark.parametrize("kind", Finding)
def test_findings_are_grouped_by_their_kind(kind: Finding) -> None:
    """One user can be in several groups."""
    other = Finding.PUBLIC if kind is not Finding.PUBLIC else Finding.MISSING
    found = [_found("a", kind), _found("b", kind, other)]
    by_kind = {each.kind: each.items for each in groups(found, EMPTY, "u-", DeletionPolicy.REVOKE)}
    assert by_kind[kind] == (Item(("a",), "u-61"), Item(("b",), "u-62"))
    assert [each.users for each in by_kind[other]] == [("b",)]
    assert groups([], EMPTY, "u-", DeletionPolicy.DROP) == []


def test_a_database_without_padding_is_named_as_couch_peruser_names_it_and_is_no_other_users() -> None:
    r"""`u-12` is the database of `\x01\x02`, and by its digits that of `\x12`, of whom there is no document."""
    inventory = Inventory(frozenset({"\x01\x02"}), frozenset(), frozenset({"u-12"}))
    found = [_found("\x01\x02", Finding.MISSING, Finding.UNPADDED), _found("\x12", Finding.NO_USER)]
    assert [(each.kind, each.items[0].database) for each in groups(found, inventory, "u-", DeletionPolicy.REVOKE)] == [
        (Finding.UNPADDED, "u-12"),
    ]


def test_a_user_of_whom_a_document_is_there_is_not_deleted() -> None:
    """Other documents of the authentication database are nobody's."""
    documents = {"org.couchdb.user:a": True, "org.couchdb.user:b": False, "_design/_auth": True}
    assert inventory_of(documents, ["u-61"]) == Inventory(frozenset({"a"}), frozenset({"b"}), frozenset({"u-61"}))


def test_databases_that_users_share_are_named_where_they_are_there() -> None:
    """Two users have the same database name without padding, and a database of that name exists."""
    names = frozenset({"\x01#", "\x12\x03"})
    there = groups([], Inventory(names, frozenset(), frozenset({"u-123"})), "u-", DeletionPolicy.REVOKE)
    assert [(each.kind, each.items) for each in there] == [(More.SHARED, (Item(("\x01#", "\x12\x03"), "u-123"),))]
    assert groups([], Inventory(names, frozenset(), frozenset()), "u-", DeletionPolicy.REVOKE) == []


def test_databases_that_would_be_deleted_at_once_are_named_with_that_policy_alone() -> None:
    """The user is deleted, and the database stayed: with delete_dbs it goes as soon as peruserd starts."""
    inventory = Inventory(frozenset({"b"}), frozenset({"a", "c"}), frozenset({"u-61", "u-62"}))
    (group,) = groups([], inventory, "u-", DeletionPolicy.DROP)
    assert (group.kind, group.items) == (More.DELETED_WITH_DATABASE, (Item(("a",), "u-61"),))
    assert groups([], inventory, "u-", DeletionPolicy.REVOKE) == []


def test_what_could_not_be_seen_is_no_difference() -> None:
    """It is told apart, for the exit code."""
    found = [_found("a", Finding.COPIES_SILENT), _found("b", Finding.PUBLIC)]
    seen: list[Group] = groups(found, EMPTY, "u-", DeletionPolicy.REVOKE)
    assert {each.kind: each.is_unseen for each in seen} == {Finding.PUBLIC: False, Finding.COPIES_SILENT: True}


def test_what_stops_couch_peruser_on_the_way_back_is_counted() -> None:
    """Deleted users without a database (unless it deletes databases), a name too long, and copies that differ."""
    inventory = Inventory(
        live=frozenset({"a", "x" * 200, "\x01"}),
        deleted=frozenset({"b", "c", "\x02", "y" * 200}),
        databases=frozenset({"u-61", "u-62", "u-2"}),
    )
    differing = groups([_found("a", Finding.COPIES_DIFFER, Finding.PUBLIC)], inventory, "u-", DeletionPolicy.REVOKE)
    assert way_back(inventory, differing, "u-", Peruser()) == WayBack(no_database=2, too_long=1, copies_differ=1)
    assert way_back(inventory, [], "u-", Peruser(delete_dbs=True)) == WayBack(
        no_database=0, too_long=1, copies_differ=0
    )


def test_the_order_names_every_node() -> None:
    """Each has a configuration of its own, so each is switched off by itself; no password is printed."""
    lines = "\n".join(order("http://127.0.0.1:5984", ["n2@b", "n1@a"], username="adm"))
    command = "curl -u adm -X PUT http://127.0.0.1:5984/_node/n1@a/_config/couch_peruser/enable -d '\"false\"'"
    assert command in lines
    assert lines.index("n1@a") < lines.index("n2@b") < lines.index("Start peruserd") < lines.index("way back")


def test_a_name_of_a_node_gives_no_order_to_a_shell() -> None:
    """A proxy can name a node as it likes."""
    lines = order("http://127.0.0.1:5984", ["x'; rm -rf ~ #\x1b", "$(id)"], username="a b'c")
    commands = [shlex.split(line) for line in lines if "curl" in line]
    assert [each[:5] for each in commands] == [["curl", "-u", "a b'c", "-X", "PUT"]] * 2
    assert [each[5] for each in commands] == [
        f"http://127.0.0.1:5984/_node/{name}/_config/couch_peruser/enable"
        for name in ("%24%28id%29", "x%27%3B%20rm%20-rf%20~%20%23%1B")
    ]
