"""The list of databases: which rows show somebody else's act, and whether the list can be read on from a place."""

import pytest

from peruserd.core.cluster.directory import Mark, News, news_of, why_not_from
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Leaf, Row

ALICE = "org.couchdb.user:alice"
DATABASE = "userdb-616c696365"


def row(database: str, *revs: str, deleted: bool = False) -> Row:
    """Return a row of the list."""
    return Row(1, database, deleted, tuple(map(Leaf, revs)))


def test_a_database_that_was_made_for_the_first_time_can_be_this_instances_own() -> None:
    """A row is first only with the first revision, without a conflict, and if it is not deleted."""
    assert news_of([row(DATABASE, "1-a")], "userdb-") == News(made=(ALICE,))


@pytest.mark.parametrize(
    "found",
    [
        row(DATABASE, "2-a", deleted=True),
        row(DATABASE, "3-a"),
        row(DATABASE, "1-a", "1-b"),
        row(DATABASE, "10-a"),
        row(DATABASE),
        row(DATABASE, "1-a", deleted=True),
    ],
    ids=["deleted", "made again", "made twice", "moved often", "no revision", "deleted as made"],
)
def test_any_other_row_is_a_reason_to_look(found: Row) -> None:
    """Somebody deleted the database, made it again, moved it, or made it at the same time."""
    assert news_of([found], "userdb-") == News(changed=(ALICE,))


@pytest.mark.parametrize(
    "database", ["_users", "userdb-", "userdb-6", "userdb-6G", "userdb-6C", "other-61", "userdb-ff"]
)
def test_a_database_that_is_no_users_is_passed_over(database: str) -> None:
    """A database is only looked at if its name is the prefix and a valid encoding of a user name."""
    assert news_of([row(database, "3-a")], "userdb-") == News()


@pytest.mark.parametrize(
    ("mark", "identity", "reads_on"),
    [
        (Mark("u", 5), Identity("u", 5), True),
        (Mark("u", 5), Identity("u", 20_005), True),
        (Mark("u", 5), Identity("u", 20_006), False),
        (Mark("u", 5), Identity("u", 4), False),
        (Mark("u", 5), Identity("v", 5), False),
        (None, Identity("u", 5), False),
    ],
    ids=["at its end", "behind", "far behind", "restored", "another node's", "unknown"],
)
def test_a_list_is_read_on_only_where_it_is_the_same(mark: Mark | None, identity: Identity, reads_on: bool) -> None:  # noqa: FBT001
    """Each node's list has its own name and sequences, and the rows of a whole day are not read one by one."""
    assert (why_not_from(mark, identity) is None) is reads_on
