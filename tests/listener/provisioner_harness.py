"""A provisioner for tests with everything that it needs, and ways to see its work."""

from collections.abc import Callable
from typing import Any

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, OnReturn
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.feed.changes import Change, make_look, make_review
from peruserd.core.feed.lanes import Lane
from peruserd.core.users.security import AS_COUCH_PERUSER, Access
from peruserd.core.users.templates import NO_TEMPLATES, Templates
from peruserd.couch.client import Client
from peruserd.couch.copies import Copies, Layout, ShardLayout
from peruserd.listener.deletion_notes import DeletionNotes
from peruserd.listener.outcome import Outcome
from peruserd.listener.provisioner import Provisioner
from peruserd.listener.template_writer import open_template_writer
from peruserd.simcluster import SimClusterThread

USER = "ann"
DATABASE = database_name("userdb-", USER)
RECORD = "record"
DEFAULT = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
SECURED = {
    "members": {"roles": ["_admin"], "names": [USER]},
    "admins": {"roles": ["_admin"], "names": [USER]},
}


class FakeDeletionNotes:
    """A substitute for the journal of deletions: it records notes and served users, and admits users or not."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, str, int | str | None]] = []
        self.served_users: list[str] = []
        self.asked: list[str] = []
        self.known: set[str] = set()
        self.admitting = False
        self.ends: set[tuple[str, str]] = set()
        self.failing: Exception | None = None

    def note(self, document_id: str, database: str, revision: str, sequence: int | str | None) -> None:
        """Note a deletion."""
        if self.failing is not None:
            raise self.failing
        self.noted.append((document_id, database, revision, sequence))

    def admits(self, document_id: str, database: str) -> bool:  # noqa: ARG002 - an interface
        """Say whether a user may be let in."""
        self.asked.append(document_id)
        return self.admitting

    def let_drop_end(self, document_id: str) -> None:
        """Wait for nothing: nothing is dropped here."""

    def knows_end(self, database: str, life: str) -> bool:
        """Say whether the end of a life of a database is no loss."""
        return (database, life) in self.ends

    def note_end(self, database: str, life: str) -> None:
        """Note that the end of a life is no loss."""
        self.ends.add((database, life))

    def knows(self, document_id: str) -> bool:
        """Say whether a deletion of the user is known."""
        return document_id in self.known

    def served(self, document_id: str) -> None:
        """Note that the user exists and was served."""
        self.served_users.append(document_id)


class ProvisionerHarness:
    """A provisioner at one node, with everything that it needs."""

    def __init__(
        self,
        client: Client,
        *,
        policy: DeletionPolicy = DeletionPolicy.REVOKE,
        on_return: OnReturn = OnReturn.REOPEN,
        databases: DatabasesConfig | None = None,
        before_create: Callable[[str], None] = lambda _: None,
        before_write: Callable[[str], None] = lambda _: None,
        layout: Layout | None = None,
        access: Access = AS_COUCH_PERUSER,
        templates: Templates = NO_TEMPLATES,
        overwrite: bool = False,
        deletions: DeletionNotes | None = None,
    ) -> None:
        self.client = client
        self.doubts: set[str] = set()
        # The notes on disk, which also a creation leaves.
        self.noted: set[str] = set()
        self.notes = FakeDeletionNotes()
        self.announce = before_write
        self.announce_creation = before_create
        places = layout or ShardLayout(client, "_local", "_users")
        self._provisioner = Provisioner(
            client,
            Copies(client, places),
            databases=databases or DatabasesConfig(),
            deletion=DeletionConfig(policy=policy, on_return=on_return),
            deletions=self.notes if deletions is None else deletions,
            intents=self,
            access=access,
            template_writer=open_template_writer(client, places, RECORD, templates, overwrite=overwrite),
        )

    def act(self, change: Change) -> Outcome:
        """Act on a change; end the doubt about its document as a listener's tracker does."""
        outcome = self._provisioner.act(change)
        if outcome.failure is None and outcome.whole:
            self.doubts.discard(change.document_id)
            self.noted.discard(change.document_id)
        return outcome

    def ensure(self, user: str = USER, *, contested: bool = False) -> Outcome:
        """Act on the user document as on a live one."""
        document_id = user_document_id(user)
        return self.act(Change(document_id, deleted=False, lane=Lane.LIVE, read_at=0.0, contested=contested))

    def remove(self, user: str = USER, *, lane: Lane = Lane.LIVE, really: bool = True) -> Outcome:
        """Act on a tombstone of the user document; with `really` an existing document is deleted first."""
        if really and self.client.document_exists("_users", user_document_id(user)):
            delete_user(self.client, user)
        return self.act(Change(user_document_id(user), deleted=True, lane=lane, read_at=0.0))

    def look(self, user: str = USER, *, each_copy: bool = False) -> Outcome:
        """Act on the user document as a scan does after it has found the database."""
        document_id = user_document_id(user)
        return self.act(Change(document_id, False, Lane.SCAN, 0.0, in_place=True, each_copy=each_copy))  # noqa: FBT003

    def roll_out(self, user: str = USER) -> Outcome:
        """Update the user's database to the present configuration."""
        return self.act(make_look(user_document_id(user), Lane.ROLLOUT, 0.0))

    def review(self, *, deleted: bool, user: str = USER) -> Outcome:
        """Compare the latest action with the user document."""
        return self.act(make_review(user_document_id(user), deleted=deleted, now=0.0))

    def missing(self, *users: str, remade: bool = False) -> set[str]:
        """Return the users without a database; with `remade` also those whose database was made again."""
        found = self._provisioner.find_missing([user_document_id(user) for user in users], remade=remade)
        return {each.removeprefix("org.couchdb.user:") for each in found}

    def before_create(self, document_id: str) -> None:
        """Note a creation, after the test was told."""
        self.announce_creation(document_id)
        self.noted.add(document_id)

    def before_write(self, document_id: str, *, is_noted: bool) -> None:
        """Note a write of a security object, after the test was told."""
        assert not is_noted or document_id in self.noted
        self.announce(document_id)
        self.noted.add(document_id)
        self.doubts.add(document_id)

    def withdraw(self, document_id: str) -> None:
        """Take the note of a creation back."""
        if document_id not in self.doubts:
            self.noted.discard(document_id)

    def in_doubt(self, document_id: str) -> bool:
        """Say whether a write was begun."""
        return document_id in self.doubts


def made(cluster: SimClusterThread, method: str, kind: str) -> int:
    """Return the number of requests of a kind, over all nodes."""
    return sum(count for (_, made, what), count in cluster.requests().items() if (made, what) == (method, kind))


def objects(cluster: SimClusterThread, database: str = DATABASE) -> list[dict[str, Any]]:
    """Return the security objects of all copies of a database."""
    return [each for copies in cluster.snapshot_security(database).values() for each in copies.values()]


def secure(client: Client, security: dict[str, Any]) -> None:
    """Make the user's database, with this security object."""
    client.create_database(DATABASE, DatabasesConfig())
    client.put_security(DATABASE, security)


def set_copy(client: Client, place: int, security: dict[str, Any], database: str = DATABASE) -> None:
    """Write one copy of a database's security object, and leave the others alone."""
    copies = Copies(client, ShardLayout(client, "_local", "_users"))
    found = copies.security(database)
    assert found is not None
    copies.write_each([(found[place], security)])


def delete_user(client: Client, user: str = USER) -> None:
    """Delete a user document."""
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)


def one_copy(security: object, **winner: object) -> dict[tuple[str, str], tuple[int, object]]:
    """Return the answers of a cluster of one node; the user's database has this security object.

    `winner` is the state of its copy of the user document: `rev`, and `deleted` for a tombstone.
    """
    whole = "00000000-ffffffff"
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("PUT", f"/{DATABASE}"): (412, {"error": "file_exists", "reason": "exists"}),
        ("GET", f"/{DATABASE}/_security"): (200, security),
    }
    for database, name in ((DATABASE, DATABASE), ("_users", "_users")):
        shard = f"/_node/n1/shards%2F{whole}%2F{name}.1"
        answers["GET", f"/_node/_local/_dbs/{database}"] = (200, {"shard_suffix": [46, 49], "by_node": {"n1": [whole]}})
        answers["GET", f"{shard}/_security"] = (200, security)
        row = {"id": user_document_id(USER), "key": user_document_id(USER), "value": winner}
        answers["POST", f"{shard}/_all_docs"] = (200, {"rows": [row]})
    return answers
