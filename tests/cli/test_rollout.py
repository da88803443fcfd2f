"""The rollout as functions, without a process: pace, groups, and acts of others meanwhile."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from peruserd.cli.connecting import Connected
from peruserd.cli.rollout import GROUP, Counts, Pace, Rolled, Rollout, Seen, finish, in_groups
from peruserd.core.cluster.views import Feed
from peruserd.core.common.names import database_name
from peruserd.core.configuration.choices import Grant, OnReturn
from peruserd.core.configuration.config import Config, DatabasesConfig, DeletionConfig, SecurityConfig
from peruserd.core.feed.rows import Page, Row
from peruserd.core.users.contents import Contents, JudgedDocument, TemplateStatus
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.security import Access, first, revoke
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch.client import Client
from peruserd.couch.errors import UnauthorizedError, UnreachableError
from peruserd.couch.sources import DatabaseSource
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import delete_user, objects

USER = "ann"
DATABASE = database_name("userdb-", USER)
PROFILE = Template("profile", {"of": "{user}"})


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes."""
    with SimClusterThread(ClusterOptions()) as running:
        yield running


@pytest.fixture
def client(cluster: SimClusterThread) -> Client:
    """A client of the first node; the user has a database as couch_peruser makes one."""
    cluster.add_user(USER, "x")
    made = connect(cluster.urls[0])
    made.create_database(DATABASE, DatabasesConfig())
    made.put_security(DATABASE, first(USER))
    return made


def rolling(client: Client, templates: Templates = NO_TEMPLATES, grant: Grant = Grant.MEMBER) -> Rollout:
    """Return a rollout with these templates and this grant."""
    config = msgspec.structs.replace(Config(), security=SecurityConfig(grant))
    connected = Connected(config, None, client)
    connected.__dict__["templates"] = templates
    return Rollout(connected, Feed.SHARD)


def test_who_is_deleted_in_the_moment_of_a_rollout_loses_access(cluster: SimClusterThread, client: Client) -> None:
    """The deletion comes between the look at the document and the write, and its owner has revoked by then."""
    put_security = client.put_security

    def after_the_deletion(database: str, security: Any) -> None:
        patched.undo()
        delete_user(client, USER)
        put_security(database, revoke(first(USER), USER))
        put_security(database, security)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(client, "put_security", after_the_deletion)
        rolling(client).roll_out(USER)
    assert all(USER not in str(each) for each in objects(cluster, DATABASE))


def test_a_user_who_waits_for_the_operator_is_left_alone(cluster: SimClusterThread, client: Client) -> None:
    """The database may be an earlier user's, so a rollout lets nobody in."""
    client.put_security(DATABASE, revoke(first(USER), USER))
    config = msgspec.structs.replace(Config(), deletion=DeletionConfig(on_return=OnReturn.HOLD))
    held = Rollout(Connected(config, None, client), Feed.SHARD)
    assert held.roll_out(USER) == Rolled(is_done=False)
    assert all(USER not in str(each) for each in objects(cluster, DATABASE))


def test_a_document_that_somebody_writes_meanwhile_is_read_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the user's own by then, and is kept."""
    templates = Templates((PROFILE,))
    path = f"/{DATABASE}/profile"
    rollout_ = rolling(client, templates, Grant.ADMIN)
    write = rollout_._template_writer._documents.write

    def after_another(database: str, documents: Any) -> Any:
        client.session.request("PUT", path, body={"mine": True})
        return write(database, documents)

    monkeypatch.setattr(rollout_._template_writer._documents, "write", after_another)
    seen = rollout_.look(USER)
    assert seen is not None
    assert seen.is_due(overwrite=False)
    assert rollout_.roll_out(USER) == Rolled(is_done=True)
    assert client.session.request("GET", path).decode(dict[str, Any])["mine"] is True


def test_a_user_without_a_database_has_nothing_to_look_at(client: Client) -> None:
    """The same holds for a user whose name allows no database."""
    seen = rolling(client, Templates((PROFILE,))).look("stranger")
    assert seen == Seen("stranger", database_name("userdb-", "stranger"))
    assert not seen.is_due(overwrite=True)
    assert rolling(client).look("x" * 500) is None


def test_a_copy_with_other_rights_is_due(cluster: SimClusterThread, client: Client) -> None:
    """An interrupted rollout has reached only the copy that is read first."""
    for node in (2, 3):
        cluster.set_copy_security(node, DATABASE, first(USER))
    cluster.set_copy_security(1, DATABASE, first(USER, Access(Grant.MEMBER)))
    rollout_ = rolling(client)
    seen = rollout_.look(USER)
    assert seen is not None
    assert seen.is_due(overwrite=False)
    assert rollout_.roll_out(USER) == Rolled(is_done=True)
    assert objects(cluster, DATABASE) == [first(USER, Access(Grant.MEMBER))] * 3
    seen = rollout_.look(USER)
    assert seen is not None
    assert not seen.is_due(overwrite=False)


def test_a_database_that_cannot_be_read_is_that_users_failure(cluster: SimClusterThread, client: Client) -> None:
    """An unreadable security object, or a server error on one path, does not hide the other users."""
    rollout_ = rolling(client)
    cluster.set_copy_security(2, DATABASE, {"admins": None})
    seen = rollout_.look(USER)
    assert seen is not None
    assert "admins" in seen.why
    cluster.fail(1, 500, path_regex=f"{DATABASE}.*/_security")
    assert rollout_.look(USER) == Seen(USER, DATABASE, Contents(), why="no copy of its security object can be read")


@pytest.mark.parametrize("error", [UnreachableError("away"), UnauthorizedError("401")])
def test_a_server_that_is_away_is_nobodys_failure(
    client: Client, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with it, and blames no user."""

    def failing(_: str) -> tuple[CopyReading, ...]:
        raise error

    rollout_ = rolling(client)
    monkeypatch.setattr(rollout_._copies, "security", failing)
    with pytest.raises(type(error)):
        rollout_.look(USER)


def test_all_users_are_gone_through_whatever_their_ids(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages continue by sequences, so ids that are shown as other ids cannot send the reader back."""
    pages = {
        0: Page([Row(1, "org.couchdb.user:b"), Row(2, "org.couchdb.user:z", deleted=True)], "2", cut=True),
        "2": Page(
            [Row(3, "org.couchdb.user:a"), Row(4, "_design/_auth"), Row(5, "org.couchdb.user:" + "y" * 9000)], "5"
        ),
    }
    monkeypatch.setattr(DatabaseSource, "page", lambda _self, since: pages[since])
    assert list(rolling(client).users()) == ["b", "a"]


def test_users_are_taken_in_small_groups() -> None:
    """The next group is looked at only after the decision to go on."""
    asked: list[str] = []

    def users() -> Iterator[str]:
        for number in range(2 * GROUP + 1):
            asked.append(str(number))
            yield str(number)

    with ThreadPoolExecutor(2) as pool:
        groups = in_groups(users(), pool, lambda user: Seen(user, "") if user != "3" else None)
        assert len(next(groups)) == GROUP - 1
        assert len(asked) == GROUP
        assert [len(group) for group in groups] == [GROUP, 1]


def test_the_pace_is_so_many_users_a_second() -> None:
    """Lost time is made up for, and without a rate there is no waiting."""
    pace = Pace(10.0, 100.0)
    assert pace.wait_seconds(20, 100.5) == pytest.approx(1.5)
    assert pace.wait_seconds(20, 103.0) == pytest.approx(1.0)
    assert pace.wait_seconds(10, 110.0) == 0.0
    assert Pace(None, 0.0).wait_seconds(1_000, 0.0) == 0.0


def test_users_are_counted_by_what_was_seen() -> None:
    """Each user is counted once, and each document by its status."""
    counts = Counts(documents={})
    contents = Contents(
        (JudgedDocument("a", TemplateStatus.CHANGED, "1-x"), JudgedDocument("b", TemplateStatus.CURRENT, "1-x")),
        ("_revs_limit",),
    )
    for seen in (
        Seen("u", "d", contents),
        Seen("v", "d", Contents((JudgedDocument("a", TemplateStatus.CHANGED, "1-x"),))),
        Seen("w", "d", Contents(), rights_due=True),
        Seen("x", "d"),
        Seen("y", "d", why="500"),
    ):
        counts.add(seen, overwrite=False)
    assert (counts.users, counts.up_to_date, counts.due, counts.without_database, counts.unreadable) == (5, 1, 2, 1, 1)
    assert (counts.rights_due, counts.options_due) == (1, 1)
    assert counts.documents["a"]["changed by its user"] == 2
    assert counts.documents["b"]["up to date"] == 1


class Interrupted(Future[Rolled]):
    """A rollout that ends by Ctrl-C while it is waited for."""

    presses = 1

    def result(self, timeout: float | None = None) -> Rolled:
        """Return the result, or be interrupted."""
        if self.presses:
            self.presses -= 1
            raise KeyboardInterrupt
        return super().result(timeout)


def test_an_interruption_loses_nothing_that_was_begun() -> None:
    """Begun rollouts are waited for and reported, and no other one begins."""
    before, begun, waiting, last = Future[Rolled](), Interrupted(), Future[Rolled](), Future[Rolled]()
    for each in (before, begun, last):
        each.set_running_or_notify_cancel()
        each.set_result(Rolled(is_done=True))
    told: list[str] = []
    rollouts = [(Seen(str(number), ""), each) for number, each in enumerate((before, begun, waiting, last))]
    with pytest.raises(KeyboardInterrupt):
        finish(rollouts, lambda seen, _rolled: told.append(seen.user))
    assert told == ["0", "1", "3"]
    assert waiting.cancelled()
