"""The deletions of one instance, driven by a test, and users to be deleted."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.deletions.journal import Ending, Entry, Kind, Saying
from peruserd.core.ownership.ranges import Range
from peruserd.core.users.evidence import DocumentState, Verdict, judge
from peruserd.couch.client import Client
from peruserd.couch.copies import open_copies
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.drop_facts import open_drop_facts_reader
from peruserd.couch.journal import Journal
from peruserd.listener.deletions import Deletions
from peruserd.listener.dropping import Tools
from peruserd.listener.store import Store
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.provisioner_harness import delete_user

WEEK = 7 * 86_400.0
DROP_AT_ONCE = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0)
DROP_LATER = DeletionConfig(policy=DeletionPolicy.DROP)

# The security object of a database whose user was deleted.
FREED: dict[str, Any] = {"admins": {"names": []}, "members": {"names": [], "roles": ["_admin"]}}


class Clock:
    """A wall clock that can be put forward, together with those of all nodes."""

    def __init__(self, cluster: SimClusterThread) -> None:
        self._cluster = cluster
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float, *, nodes: tuple[int, ...] = (1, 2, 3)) -> None:
        """Let time pass here and at these nodes."""
        self._ahead += seconds
        for node in nodes:
            self._cluster.set_clock(node, self._ahead)


class DeletionsHarness:
    """The deletions of one instance: a test starts each round, and sees the looks that they request."""

    def __init__(
        self,
        cluster: SimClusterThread,
        clock: Clock,
        path: Path,
        *,
        node: int = 1,
        config: DeletionConfig = DROP_AT_ONCE,
        mine: bool = True,
        notes_ends: bool = False,
    ) -> None:
        self.client = connect(cluster.urls[node - 1])
        followed = Copy("_users", Range(0, 0xFFFF_FFFF), cluster.node_names[node - 1], ".1")
        self.journal = DeletionJournal(Journal(self.client.session, "peruserd"))
        self.copies = open_copies(self.client, followed)
        self.mine = mine
        self.looked_again: list[str] = []
        self.drops = 0
        self.failures: list[str] = []
        self.store = Store.open(path)
        tools = Tools(
            prefix="userdb-",
            client=self.client,
            copies=self.copies,
            facts=open_drop_facts_reader(self.client, followed, "peruserd"),
            journal=self.journal,
            confirm=self.confirm,
            look_again=self.looked_again.append,
            wall_clock=clock,
            notes_ends=notes_ends,
        )
        self.deletions = Deletions(
            tools,
            self.store,
            noting=tools,
            config=config,
            instance=f"node{node}",
            mine=lambda _: self.mine,
            on_drop=self._dropped,
            on_failure=self.failures.append,
        )
        self.deletions.take_news(frozenset(), pause_changed=False, usable=True)

    def confirm(self, document_id: str) -> Verdict:
        """Ask the copies of a document."""
        return judge(self.copies.evidence(document_id))

    def _dropped(self) -> None:
        self.drops += 1

    def before_each_drop(self, patches: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        """Let something happen just before a database is dropped."""
        drop = self.client.drop_database

        def act_and_drop(database: str) -> Any:
            act()
            return drop(database)

        patches.setattr(self.client, "drop_database", act_and_drop)

    def note(self, user: str) -> None:
        """Note the deletion of a user whose document is deleted."""
        verdict = self.confirm(user_document_id(user))
        assert verdict.state is DocumentState.DELETED
        assert verdict.rev is not None
        self.deletions.note(user_document_id(user), database_name("userdb-", user), verdict.rev, 7)

    def entries(self, user: str, kind: Kind = Kind.DELETION) -> list[Entry]:
        """Return the journal's entries for a user."""
        return list(self.journal.entries(kind, database_name("userdb-", user)))

    def endings(self, user: str) -> list[Ending | None]:
        """Return the endings of the journal's entries for a user."""
        return [each.ending for each in self.entries(user)]

    def say(self, user: str, saying: Saying, kind: Kind = Kind.DELETION) -> None:
        """Give an operator's order about the entries of a user."""
        for entry in self.entries(user, kind):
            self.journal.say(entry.id, lambda _: saying)
            self.deletions.take_news(frozenset({entry.id}), pause_changed=False, usable=True)


def sign_up(cluster: SimClusterThread, harness: DeletionsHarness, user: str, *, documents: int = 1) -> None:
    """Make a user and the user's database, with something in it."""
    cluster.add_user(user, "secret")
    make_database(harness.client, user, documents=documents)


def make_database(client: Client, user: str, *, documents: int = 1) -> None:
    """Make a user's database, with something in it."""
    database = database_name("userdb-", user)
    client.create_database(database, DatabasesConfig())
    for number in range(documents):
        client.session.request("PUT", f"/{database}/doc{number}", body={"a": 1}).expect(201, 202)


def deleted_user(cluster: SimClusterThread, harness: DeletionsHarness, user: str = "ann", *, documents: int = 1) -> str:
    """Make a user with a database, delete the user and note it; return the database's name."""
    sign_up(cluster, harness, user, documents=documents)
    delete_user(harness.client, user)
    harness.note(user)
    return database_name("userdb-", user)


def held_return(cluster: SimClusterThread, harness: DeletionsHarness, user: str = "ann") -> str:
    """Let a user come back to a freed database that stays closed; return the database's name."""
    sign_up(cluster, harness, user)
    database = database_name("userdb-", user)
    harness.client.put_security(database, FREED)
    assert not harness.deletions.admits(user_document_id(user), database)
    return database
