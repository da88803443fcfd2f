import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog

from peruserd.core.cluster.views import Copy
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig, DeletionPolicy, OnReturn
from peruserd.core.deletions.journal import Ending, Entry, Kind, Pause, PauseReason, Saying, State, Word
from peruserd.core.ownership.ranges import Range
from peruserd.core.users.evidence import DocumentState, Verdict, judge
from peruserd.core.users.facts import CopyReading
from peruserd.couch.client import Client
from peruserd.couch.copies import open_copies
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.grounds import open_grounds
from peruserd.couch.journal import Journal
from peruserd.listener import deletions as deletions_module
from peruserd.listener.deletions import Deletions
from peruserd.listener.dropping import Tools
from peruserd.listener.store import Store
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect

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


class Desk:
    """The deletions of one instance, looked at when it is told to, and what they ask of others."""

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
            grounds=open_grounds(self.client, followed, "peruserd"),
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
        self.deletions.told(frozenset(), pause_changed=False, usable=True)

    def confirm(self, document_id: str) -> Verdict:
        """Ask the copies of a document."""
        return judge(self.copies.evidence(document_id))

    def _dropped(self) -> None:
        self.drops += 1

    def before_each_drop(self, patches: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
        """Let something happen in the moment before a database is dropped."""
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
        """Return what the journal has of a user."""
        return list(self.journal.entries(kind, database_name("userdb-", user)))

    def endings(self, user: str) -> list[Ending | None]:
        """Return how what the journal has of a user ended."""
        return [each.ending for each in self.entries(user)]

    def say(self, user: str, saying: Saying, kind: Kind = Kind.DELETION) -> None:
        """Say something of what waits for a user, as the operator does."""
        for entry in self.entries(user, kind):
            self.journal.say(entry.id, lambda _: saying)
            self.deletions.told(frozenset({entry.id}), pause_changed=False, usable=True)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes with peruserd's own database."""
    with SimClusterThread(ClusterOptions()) as running:
        connect(running.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        yield running


@pytest.fixture
def clock(cluster: SimClusterThread) -> Clock:
    """The time."""
    return Clock(cluster)


@pytest.fixture
def desk(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> Desk:
    """The deletions of the instance beside node 1, without a grace period."""
    return Desk(cluster, clock, tmp_path / "one.sqlite")


@pytest.fixture
def patient(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> Desk:
    """The deletions of the instance beside node 1, with the grace period of seven days."""
    return Desk(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)


def sign_up(cluster: SimClusterThread, desk: Desk, user: str, *, documents: int = 1) -> None:
    """Make a user and the user's database, with something in it."""
    cluster.add_user(user, "secret")
    make_database(desk.client, user, documents=documents)


def make_database(client: Client, user: str, *, documents: int = 1) -> None:
    """Make a user's database, with something in it."""
    database = database_name("userdb-", user)
    client.create_database(database, DatabasesConfig())
    for number in range(documents):
        client.session.request("PUT", f"/{database}/doc{number}", body={"a": 1}).expect(201, 202)


def delete(client: Client, user: str) -> None:
    """Delete a user document."""
    path = f"/_users/{user_document_id(user)}"
    rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
    client.session.request("DELETE", path, params={"rev": rev}).expect(200, 202)


def deleted_user(cluster: SimClusterThread, desk: Desk, user: str = "ann", *, documents: int = 1) -> str:
    """Make a user with a database, delete the user and note it; return the database's name."""
    sign_up(cluster, desk, user, documents=documents)
    delete(desk.client, user)
    desk.note(user)
    return database_name("userdb-", user)


def held_return(cluster: SimClusterThread, desk: Desk, user: str = "ann") -> str:
    """Let a user come back to a database that was freed, and is kept shut; return the database's name."""
    sign_up(cluster, desk, user)
    database = database_name("userdb-", user)
    desk.client.put_security(database, FREED)
    assert not desk.deletions.admits(user_document_id(user), database)
    return database


# Dropped


def test_without_a_grace_period_it_is_dropped_at_once(cluster: SimClusterThread, desk: Desk) -> None:
    """A deletion that was noted is carried out in the next round, ends in the journal and is counted and told."""
    database = deleted_user(cluster, desk)
    with structlog.testing.capture_logs() as lines:
        desk.deletions.round()
    assert database not in cluster.databases()
    assert (desk.endings("ann"), desk.drops) == ([Ending.DROPPED], 1)
    (line,) = [each for each in lines if each["event"] == "audit"]
    assert line["action"] == "drop"
    assert (line["database"], line["document"]) == (database, user_document_id("ann"))
    assert (line["sequence"], line["revision"]) == (7, desk.entries("ann")[0].revision)
    assert desk.looked_again == []


def test_an_entry_that_names_anothers_database_drops_nothing(cluster: SimClusterThread, desk: Desk) -> None:
    """Somebody who could write to the journal for a moment gets no other user's database dropped."""
    own = deleted_user(cluster, desk)
    sign_up(cluster, desk, "bob")
    victims = database_name("userdb-", "bob")
    shard_map = desk.client.shard_map("_local", victims)
    assert shard_map is not None
    (entry,) = desk.entries("ann")
    desk.journal.note(msgspec.structs.replace(entry, database=victims, suffix=shard_map.suffix))
    desk.deletions.owners_changed()
    desk.deletions.round()
    assert (victims in cluster.databases(), own in cluster.databases()) == (True, False)


def test_after_the_grace_period_it_is_dropped(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """A database stays for seven days, and goes after them."""
    database = deleted_user(cluster, patient)
    patient.deletions.round()
    clock.advance(WEEK - 60)
    patient.deletions.round()
    assert database in cluster.databases()
    clock.advance(120)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert patient.endings("ann") == [Ending.DROPPED]


def test_a_round_waits_until_something_is_due(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """An entry that is not due costs nothing: no request is made for it before its date."""
    deleted_user(cluster, patient)
    patient.deletions.round()
    cluster.clear_requests()
    for _ in range(3):
        patient.deletions.round()
    assert cluster.requests() == {}
    clock.advance(WEEK - 100)
    assert 0 < patient.deletions.round() <= 101


def test_what_was_noted_twice_is_one_entry(cluster: SimClusterThread, patient: Desk) -> None:
    """The same tombstone, met live, in a scan and by another instance, is noted once and keeps its date."""
    deleted_user(cluster, patient)
    (before,) = patient.entries("ann")
    patient.note("ann")
    assert patient.entries("ann") == [before]


def test_a_deletion_without_a_database_is_not_noted(cluster: SimClusterThread, desk: Desk) -> None:
    """Where there is nothing to drop nothing is written."""
    cluster.add_user("ann", "secret")
    delete(desk.client, "ann")
    desk.note("ann")
    assert desk.entries("ann") == []


@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.KEEP])
def test_only_the_policy_drop_drops(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, desk: Desk, policy: DeletionPolicy
) -> None:
    """Another policy notes nothing, and what an earlier one noted waits until that is in force again."""
    database = deleted_user(cluster, desk)
    other = Desk(cluster, clock, tmp_path / "two.sqlite", config=DeletionConfig(policy=policy))
    deleted_user(cluster, other, "bob")
    other.deletions.round()
    assert other.entries("bob") == []
    assert database in cluster.databases()


def test_nodes_that_are_gone_for_good_stand_in_no_ones_way(tmp_path: Path) -> None:
    """A cluster that lists nodes which no longer exist drops what the hosts of the database allow."""
    with SimClusterThread(ClusterOptions(nodes=5, n=3)) as cluster:
        client = connect(cluster.urls[0])
        client.session.request("PUT", "/peruserd", params={"q": "1", "n": "5"}).expect(201)
        desk = Desk(cluster, Clock(cluster), tmp_path / "one.sqlite")
        names = [f"u{number}" for number in range(30)]
        for user in names:
            sign_up(cluster, desk, user)
        hosts = {user: hosts_of(desk, user) for user in names}
        user = next(
            user for user in names if hosts[user] <= set(cluster.node_names[:4]) and on_first_four(cluster, desk, user)
        )
        delete(client, user)
        desk.note(user)
        cluster.stop_node(5)
        desk.deletions.round()
        assert desk.endings(user) == [Ending.DROPPED]


def hosts_of(desk: Desk, user: str) -> set[str]:
    """Return the nodes that host a user's database."""
    shard_map = desk.client.shard_map("_local", database_name("userdb-", user))
    assert shard_map is not None
    return {node for nodes in shard_map.hosts.values() for node in nodes}


def on_first_four(cluster: SimClusterThread, desk: Desk, user: str) -> bool:
    """Say whether a user document is on none but the first four nodes."""
    return {each.node for each in desk.copies.evidence(user_document_id(user)).readings} <= set(cluster.node_names[:4])


# Kept


def test_a_user_who_comes_back_keeps_everything(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """A user document that is live when the deletion falls due ends it, and the user is looked at again."""
    database = deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    clock.advance(WEEK + 60)
    patient.deletions.round()
    assert database in cluster.databases()
    assert patient.endings("ann") == [Ending.RETURNED]
    assert patient.looked_again == [user_document_id("ann")]


def test_a_user_who_is_served_ends_the_deletion_at_once(cluster: SimClusterThread, patient: Desk) -> None:
    """Long before its date a deletion ends when its user is there again."""
    deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    assert patient.endings("ann") == [Ending.RETURNED]


def test_a_user_deleted_anew_has_a_grace_period_anew(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """A second deletion is another entry with a date of its own, and the first one ends."""
    database = deleted_user(cluster, patient)
    clock.advance(WEEK - 60)
    cluster.add_user("ann", "secret")
    delete(patient.client, "ann")
    clock.advance(120)
    patient.deletions.round()
    assert database in cluster.databases()
    assert sorted(map(str, patient.endings("ann"))) == ["None", "superseded"]
    clock.advance(WEEK + 60)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert sorted(map(str, patient.endings("ann"))) == ["dropped", "superseded"]


def test_another_database_of_the_name_is_not_dropped(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """A database made in the place of the one that was noted is not due."""
    database = deleted_user(cluster, patient)
    clock.advance(3_600)
    patient.client.delete_database(database)
    make_database(patient.client, "ann")
    clock.advance(WEEK)
    patient.deletions.round()
    assert database in cluster.databases()
    assert patient.endings("ann") == [Ending.OTHER_DATABASE]
    patient.note("ann")
    clock.advance(2 * WEEK)
    patient.deletions.round()
    assert database in cluster.databases()


def test_a_database_that_somebody_deleted_is_no_drop(cluster: SimClusterThread, desk: Desk) -> None:
    """A database that is gone already is not counted as dropped."""
    database = deleted_user(cluster, desk)
    desk.client.delete_database(database)
    desk.deletions.round()
    assert (desk.endings("ann"), desk.drops) == ([Ending.GONE], 0)


def test_a_document_that_never_was_keeps_its_database(cluster: SimClusterThread, desk: Desk) -> None:
    """An authentication database that was deleted and made again knows nobody; nobody is deleted by that."""
    database = deleted_user(cluster, desk)
    desk.client.delete_database("_users")
    desk.client.session.request("PUT", "/_users").expect(201)
    desk.deletions.round()
    assert database in cluster.databases()
    assert desk.endings("ann") == [None]


@pytest.mark.parametrize("groups", [[[1], [2, 3]], [[1], [2], [3]]])
def test_nothing_is_dropped_by_a_minority(cluster: SimClusterThread, desk: Desk, groups: list[list[int]]) -> None:
    """A node cut off from the hosts of a document, of a database or of the journal drops nothing until it is back."""
    database = deleted_user(cluster, desk)
    cluster.partition(groups)
    desk.deletions.round()
    assert database in cluster.databases()
    cluster.heal()
    cluster.replicate()
    desk.deletions.served(user_document_id("ann"))
    desk.deletions.round()
    assert database not in cluster.databases()


def test_one_host_of_three_that_is_away_stands_in_no_ones_way(cluster: SimClusterThread, desk: Desk) -> None:
    """A majority of the hosts is enough."""
    database = deleted_user(cluster, desk)
    cluster.stop_node(3)
    desk.deletions.round()
    assert database not in cluster.databases()


def test_nothing_is_dropped_while_the_journal_cannot_be_trusted(cluster: SimClusterThread, desk: Desk) -> None:
    """While the leases cannot be read, or the journal is open to others, nothing is dropped."""
    database = deleted_user(cluster, desk)
    desk.deletions.told(frozenset(), pause_changed=False, usable=False)
    desk.deletions.round()
    assert database in cluster.databases()
    desk.deletions.told(frozenset(), pause_changed=False, usable=True)
    desk.deletions.round()
    assert database not in cluster.databases()


def test_a_journal_that_cannot_be_trusted_any_more_ends_a_round(
    cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News of a journal open to others stops the round under way, after the drop that was begun."""
    databases = [deleted_user(cluster, desk, user) for user in ("ann", "bob")]
    distrusted = partial(desk.deletions.told, frozenset(), pause_changed=False, usable=False)
    desk.before_each_drop(monkeypatch, distrusted)
    desk.deletions.round()
    assert desk.drops == 1
    assert len([each for each in databases if each in cluster.databases()]) == 1


def test_nothing_is_dropped_for_another_owner(cluster: SimClusterThread, desk: Desk) -> None:
    """An entry whose document is another instance's by now is let go of."""
    database = deleted_user(cluster, desk)
    desk.mine = False
    desk.deletions.round()
    assert database in cluster.databases()
    desk.deletions.owners_changed()
    assert desk.deletions.standing().waiting == 0
    assert desk.store.deletions() == []


# Clocks


def test_a_node_whose_clock_is_wrong_hastens_nothing(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """Our own clock and one node's, both ahead by weeks, drop nothing while two others say otherwise."""
    database = deleted_user(cluster, patient)
    clock.advance(WEEK + 60, nodes=(1,))
    patient.deletions.round()
    assert database in cluster.databases()
    clock.advance(0)
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    assert database not in cluster.databases()


def test_a_clock_that_is_behind_shortens_no_grace_period(
    cluster: SimClusterThread, clock: Clock, patient: Desk
) -> None:
    """A deletion noted by a machine whose clock is a month behind is due seven days from now all the same."""
    clock.advance(-4 * WEEK, nodes=())
    database = deleted_user(cluster, patient)
    clock.advance(4 * WEEK, nodes=())
    patient.deletions.round()
    assert database in cluster.databases()


def test_a_clock_that_is_behind_shortens_no_grace_period_of_a_second_deletion(
    cluster: SimClusterThread, clock: Clock, patient: Desk
) -> None:
    """The entry that takes the place of a superseded one is dated as carefully as the first one was."""
    deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    delete(patient.client, "ann")
    clock.advance(-4 * WEEK, nodes=())
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    clock.advance(4 * WEEK, nodes=())
    (anew,) = [each for each in patient.entries("ann") if each.is_open]
    assert anew.due_at > clock() + WEEK - 60


# Words and the pause


def test_a_cancelled_deletion_is_not_made(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """The operator's word ends it, also against a scan that meets the tombstone again."""
    database = deleted_user(cluster, patient)
    patient.say("ann", Saying(Word.CANCEL))
    patient.deletions.round()
    assert patient.endings("ann") == [Ending.CANCELLED]
    patient.note("ann")
    clock.advance(2 * WEEK)
    patient.deletions.round()
    assert database in cluster.databases()


def test_an_operator_can_hasten_one(cluster: SimClusterThread, patient: Desk) -> None:
    """`drop-now` does not wait for the date, and drops that one alone."""
    database, other = deleted_user(cluster, patient), deleted_user(cluster, patient, "bob")
    patient.say("ann", Saying(Word.DROP_NOW))
    patient.deletions.round()
    assert database not in cluster.databases()
    assert other in cluster.databases()


def test_a_held_deletion_waits(cluster: SimClusterThread, desk: Desk) -> None:
    """`hold` keeps one until another word."""
    database = deleted_user(cluster, desk)
    desk.say("ann", Saying(Word.HOLD))
    desk.deletions.round()
    assert database in cluster.databases()
    desk.say("ann", Saying())
    desk.deletions.round()
    assert database not in cluster.databases()


def test_a_pause_is_for_all_but_those_resumed(cluster: SimClusterThread, desk: Desk) -> None:
    """While all is paused only what was resumed by name goes on; the rest follows when the pause is over."""
    database, other = deleted_user(cluster, desk), deleted_user(cluster, desk, "bob")
    desk.journal.set_pause(Pause(paused=True))
    desk.say("ann", Saying(resumed=True))
    desk.deletions.round()
    assert (database in cluster.databases(), other in cluster.databases()) == (False, True)
    desk.journal.set_pause(Pause())
    desk.deletions.told(frozenset(), pause_changed=True, usable=True)
    desk.deletions.round()
    assert other not in cluster.databases()


def test_a_pause_said_on_one_side_of_a_cut_holds_after_it(cluster: SimClusterThread, desk: Desk) -> None:
    """A pause and a resumption that know nothing of each other are a pause."""
    database = deleted_user(cluster, desk)
    desk.journal.set_pause(Pause(at=1.0))
    cluster.partition([[1], [2, 3]])
    with pytest.raises(Exception, match="minority"):
        desk.journal.set_pause(Pause(paused=True, at=2.0))
    DeletionJournal(Journal(connect(cluster.urls[1]).session, "peruserd")).set_pause(Pause(at=3.0))
    cluster.heal()
    cluster.replicate()
    desk.deletions.round()
    assert database in cluster.databases()


def test_a_pause_that_cannot_be_read_is_a_pause(cluster: SimClusterThread, desk: Desk) -> None:
    """An error in reading the pause, whatever it is, keeps the databases."""
    database = deleted_user(cluster, desk)
    cluster.fail(1, 500, path_regex="/peruserd/pause")
    desk.deletions.round()
    assert database in cluster.databases()
    cluster.clear_faults()
    desk.deletions.told(frozenset(), pause_changed=True, usable=True)
    desk.deletions.round()
    assert database not in cluster.databases()


# The breaker


def test_too_many_drops_stop_all(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """The first beyond the limit pauses the whole cluster, tells so, and waits for the operator."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=3)
    desks = [Desk(cluster, clock, tmp_path / f"{node}.sqlite", node=node, config=config) for node in (1, 2)]
    users = [f"u{number}" for number in range(6)]
    for number, user in enumerate(users):
        deleted_user(cluster, desks[number % 2], user)
    for desk in desks:
        desk.mine = True
    with structlog.testing.capture_logs() as lines:
        for desk in desks:
            desk.deletions.round()
    assert sum(desk.drops for desk in desks) == 3
    pause = desks[0].journal.pause()
    assert (pause.paused, pause.why) == (True, PauseReason.BREAKER)
    assert any("too many" in each["event"] and each["log_level"] == "error" for each in lines)
    left = [user for user in users if database_name("userdb-", user) in cluster.databases()]
    assert len(left) == 3
    assert {desks[0].endings(user)[0] for user in left} == {None}
    now = clock()
    desks[0].journal.set_pause(Pause(at=now, resumed_at=now))
    for desk in desks:
        desk.deletions.told(frozenset(), pause_changed=True, usable=True)
        desk.deletions.round()
    assert [each for each in cluster.databases() if each.startswith("userdb-")] == []


def test_a_database_that_nobody_wrote_to_does_not_count(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Users who sign up and go without leaving anything open no breaker."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    for number in range(4):
        deleted_user(cluster, desk, f"u{number}", documents=0)
    deleted_user(cluster, desk, "ann")
    desk.deletions.round()
    assert desk.drops == 5
    assert not desk.journal.pause().paused


def test_drops_of_long_ago_do_not_count(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """The breaker counts within its time alone."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    for user in ("ann", "bob"):
        deleted_user(cluster, desk, user)
        desk.deletions.round()
        clock.advance(700)
    assert desk.drops == 2


def test_a_drop_that_failed_for_long_counts_when_it_is_made(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Drops that fail for hours, and are all made when the cluster is well again, open the breaker like others."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    database = deleted_user(cluster, desk)
    cluster.fail(1, 500, count=1, method="DELETE", path_regex="userdb")
    desk.deletions.round()
    assert desk.entries("ann")[0].state is State.DROPPING
    clock.advance(700)
    deleted_user(cluster, desk, "bob")
    desk.deletions.round()
    assert desk.endings("bob") == [Ending.DROPPED]
    assert database in cluster.databases()
    assert desk.journal.pause().why is PauseReason.BREAKER


def test_a_resumption_of_the_future_leaves_no_gap_in_the_breaker(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """An operator's machine whose clock is a day ahead does not keep drops from being counted for a day."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    for user in ("ann", "bob"):
        deleted_user(cluster, desk, user)
    tomorrow = clock() + 86_400
    desk.journal.set_pause(Pause(at=tomorrow, resumed_at=tomorrow))
    desk.deletions.round()
    assert desk.drops == 1
    assert desk.journal.pause().why is PauseReason.BREAKER


YEAR = 365 * 86_400.0


def test_a_clock_that_was_ahead_keeps_no_database_for_years(
    cluster: SimClusterThread, clock: Clock, patient: Desk
) -> None:
    """A deletion noted by a machine whose clock is a year ahead is due seven days after somebody sees that."""
    clock.advance(YEAR, nodes=())
    database = deleted_user(cluster, patient)
    patient.deletions.round()
    clock.advance(-YEAR, nodes=())
    patient.deletions.round()
    (entry,) = patient.entries("ann")
    assert clock() + WEEK - 60 < entry.due_at < clock() + WEEK + 60
    clock.advance(WEEK + 60)
    patient.deletions.round()
    assert database not in cluster.databases()


def test_without_a_grace_period_a_clock_that_was_ahead_holds_up_nothing(
    cluster: SimClusterThread, clock: Clock, desk: Desk
) -> None:
    """It was due when it was noted, whenever that was."""
    clock.advance(YEAR, nodes=())
    deleted_user(cluster, desk)
    clock.advance(-YEAR, nodes=())
    desk.deletions.round()
    assert desk.endings("ann") == [Ending.DROPPED]


def test_drops_of_a_clock_that_was_ahead_do_not_count_for_ever(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Otherwise the breaker would be open for good, and no `resume` would close it."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    clock.advance(YEAR, nodes=())
    deleted_user(cluster, desk)
    desk.deletions.round()
    clock.advance(-YEAR, nodes=())
    for user in ("bob", "eve"):
        deleted_user(cluster, desk, user)
        desk.deletions.round()
    assert (desk.drops, desk.endings("bob")) == (2, [Ending.DROPPED])
    assert desk.journal.pause().why is PauseReason.BREAKER


# Crashes


def test_what_was_noted_is_found_without_the_state(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """An instance whose state directory is lost, or another owner, reads the journal and goes on."""
    database = deleted_user(cluster, Desk(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER))
    clock.advance(WEEK + 60)
    heir = Desk(cluster, clock, tmp_path / "two.sqlite", node=2, config=DROP_LATER)
    heir.deletions.round()
    assert database not in cluster.databases()


def test_what_is_kept_on_disk_is_known_at_once(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """A restart knows what waits before it has read the journal."""
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    deleted_user(cluster, desk)
    (entry,) = desk.entries("ann")
    desk.store.close()
    again = Desk(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    assert again.deletions.standing().waiting == 1
    assert again.deletions.standing().oldest_due == entry.due_at


@pytest.mark.parametrize("outcome", ["cut", "cut-after", 500])
def test_a_drop_that_is_cut_off_is_made_in_the_end(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, outcome: int | str
) -> None:
    """Wherever the request breaks, the journal says that it was begun, and the next look ends it."""
    desk = Desk(cluster, clock, tmp_path / "one.sqlite")
    database = deleted_user(cluster, desk)
    cluster.fail(1, outcome, count=1, method="DELETE", path_regex="userdb")
    desk.deletions.round()
    assert desk.entries("ann")[0].state is State.DROPPING
    assert desk.failures
    again = Desk(cluster, clock, tmp_path / "two.sqlite", node=2)
    again.deletions.round()
    assert database not in cluster.databases()
    assert again.endings("ann") == [Ending.GONE if outcome == "cut-after" else Ending.DROPPED]


def test_a_drop_whose_answer_was_lost_is_in_the_log(cluster: SimClusterThread, desk: Desk) -> None:
    """The next look finds the database gone, and does not say that nobody dropped it."""
    database = deleted_user(cluster, desk)
    cluster.fail(1, "cut-after", count=1, method="DELETE", path_regex="userdb")
    with structlog.testing.capture_logs() as lines:
        desk.deletions.round()
        desk.deletions.served(user_document_id("ann"))
        desk.deletions.round()
    assert desk.endings("ann") == [Ending.GONE]
    (line,) = [each for each in lines if each["event"] == "audit"]
    assert (line["action"], line["database"], line["incomplete"]) == ("drop", database, "answer_lost")
    assert not [each for each in lines if "without a drop" in each["event"]]


def test_a_process_that_dies_before_the_drop_has_written_what_it_meant_to_do(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the journal and the drop: another one drops it, and it counts once for the breaker."""
    database = deleted_user(cluster, desk)

    def die(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.client, "drop_database", die)
    with pytest.raises(KeyboardInterrupt):
        desk.deletions.round()
    again = Desk(cluster, clock, tmp_path / "two.sqlite", node=2)
    again.deletions.round()
    assert database not in cluster.databases()
    assert again.journal.count_drops(0.0, clock(), 10) == 1


def test_a_user_who_comes_back_in_the_moment_of_the_drop_is_served(
    cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is read once more after the drop: one that is live again gets a new database."""
    deleted_user(cluster, desk)
    desk.before_each_drop(monkeypatch, lambda: cluster.add_user("ann", "secret"))
    desk.deletions.round()
    assert desk.endings("ann") == [Ending.DROPPED]
    assert desk.looked_again == [user_document_id("ann")]


def test_what_changes_while_it_is_decided_is_not_dropped(
    cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who comes back, or a word, between the decision and the drop keeps it, and nothing is counted."""
    database = deleted_user(cluster, desk)
    begin = Entry.begun

    def return_first(entry: Entry, now: float) -> Entry:
        cluster.add_user("ann", "secret")
        return begin(entry, now)

    monkeypatch.setattr(Entry, "begun", return_first)
    desk.deletions.round()
    assert database in cluster.databases()
    assert desk.entries("ann")[0].state is State.WAITING
    assert desk.journal.count_drops(0.0, time.time(), 10) == 0


def test_an_accepted_drop_is_not_yet_one(
    cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop that only a minority of the nodes has made is not counted, and is looked at again."""
    deleted_user(cluster, desk)
    desk.before_each_drop(monkeypatch, lambda: cluster.partition([[1], [2, 3]]))
    desk.deletions.round()
    assert desk.drops == 0


# Users who come back to a database that was left


def test_a_return_is_held_until_the_operator_says_so(cluster: SimClusterThread, patient: Desk) -> None:
    """A freed name's database is kept shut; `release` lets the user in, and is used up by that."""
    database = held_return(cluster, patient)
    assert patient.deletions.standing().held == 1
    patient.deletions.round()
    assert database in cluster.databases()
    patient.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    patient.deletions.round()
    assert patient.looked_again == [user_document_id("ann")]
    assert patient.deletions.admits(user_document_id("ann"), database)
    patient.client.put_security(database, {"admins": {"names": ["ann"]}, "members": {"names": ["ann"]}})
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    assert [each.ending for each in patient.entries("ann", Kind.RETURN)] == [Ending.RELEASED]
    patient.client.put_security(database, FREED)
    assert not patient.deletions.admits(user_document_id("ann"), database)


def test_a_release_is_not_for_a_user_who_comes_later(cluster: SimClusterThread, patient: Desk) -> None:
    """A user who is gone when the word is seen does not leave the door open for the next one of that name."""
    database = held_return(cluster, patient)
    delete(patient.client, "ann")
    patient.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    patient.deletions.round()
    assert [each.ending for each in patient.entries("ann", Kind.RETURN)] == [Ending.SUPERSEDED]
    cluster.add_user("ann", "another")
    assert not patient.deletions.admits(user_document_id("ann"), database)


@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.DROP])
def test_a_release_ends_with_the_deletion_of_its_user(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, policy: DeletionPolicy
) -> None:
    """Also where nobody has looked at it since, so that the next user of that name is not let in by it."""
    config = DeletionConfig(policy=policy, on_return=OnReturn.HOLD)
    desk = Desk(cluster, clock, tmp_path / "one.sqlite", config=config)
    database = held_return(cluster, desk)
    desk.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    desk.deletions.note(user_document_id("ann"), database, "3-c", None)
    assert [each.ending for each in desk.entries("ann", Kind.RETURN)] == [Ending.SUPERSEDED]
    assert not desk.deletions.admits(user_document_id("ann"), database)


def test_a_release_is_used_up_while_a_copy_is_away(cluster: SimClusterThread, patient: Desk) -> None:
    """Most copies name the user: the word has done its work, whatever the last copy holds."""
    database = held_return(cluster, patient)
    patient.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    cluster.stop_node(3)
    patient.client.put_security(database, {"admins": {"names": ["ann"]}, "members": {"names": ["ann"]}})
    patient.deletions.round()
    assert [each.ending for each in patient.entries("ann", Kind.RETURN)] == [Ending.RELEASED]


def test_what_was_left_can_be_dropped_for_a_user_who_came_back(cluster: SimClusterThread, patient: Desk) -> None:
    """`drop-now` of a return drops what was left there, and the user is served anew."""
    database = held_return(cluster, patient)
    patient.say("ann", Saying(Word.DROP_NOW), Kind.RETURN)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert patient.looked_again == [user_document_id("ann")]


def test_a_database_that_names_its_user_is_never_dropped_for_a_return(cluster: SimClusterThread, patient: Desk) -> None:
    """A user who was let in meanwhile may have written there, so an earlier order drops nothing."""
    database = held_return(cluster, patient)
    patient.client.put_security(database, {"admins": {"names": []}, "members": {"names": ["ann"]}})
    patient.say("ann", Saying(Word.DROP_NOW), Kind.RETURN)
    patient.deletions.round()
    assert database in cluster.databases()


def test_one_that_nobody_can_judge_holds_up_no_other(
    cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A security object of no known shape is the failure of one entry; the others are seen to."""
    held_return(cluster, desk)
    database = deleted_user(cluster, desk, "bob")
    monkeypatch.setattr(desk.copies, "security", lambda _: (CopyReading("node1", {"admins": []}),))
    desk.deletions.round()
    assert desk.failures == ["unforeseen"]
    assert database not in cluster.databases()


# The thread


def test_the_thread_outlives_a_server_that_is_away(cluster: SimClusterThread, desk: Desk) -> None:
    """Failures are counted and the next round comes; a stop ends the thread."""
    database = deleted_user(cluster, desk)
    cluster.fail(1, 503, count=3)
    thread = threading.Thread(target=desk.deletions.run)
    thread.start()
    while database in cluster.databases(2):
        threading.Event().wait(0.01)
    desk.deletions.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert desk.failures


def two_that_ended_long_ago(cluster: SimClusterThread, clock: Clock, desk: Desk) -> None:
    """Let one deletion be cancelled, whose database stays, and another one be made, a month ago."""
    deleted_user(cluster, desk)
    deleted_user(cluster, desk, "bob")
    desk.say("ann", Saying(Word.CANCEL))
    desk.say("bob", Saying(Word.DROP_NOW))
    desk.deletions.round()
    clock.advance(31 * 86_400)


def test_what_ended_long_ago_is_removed(cluster: SimClusterThread, clock: Clock, patient: Desk) -> None:
    """The journal does not grow for ever; an entry that keeps a database from being dropped stays as long as that."""
    two_that_ended_long_ago(cluster, clock, patient)
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert (patient.endings("ann"), patient.endings("bob")) == ([Ending.CANCELLED], [])
    assert patient.journal.count_drops(0.0, clock(), 10) == 0
    patient.client.delete_database(database_name("userdb-", "ann"))
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert patient.entries("ann") == []
    assert patient.journal.sayings() == {}


def test_what_has_to_stay_keeps_nothing_else_in_the_journal(
    cluster: SimClusterThread, clock: Clock, patient: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many entries guard their databases, those behind them are removed by a later reading."""
    monkeypatch.setattr("peruserd.listener.purging._MAX_PURGED", 1)
    two_that_ended_long_ago(cluster, clock, patient)
    for _ in range(2):
        patient.deletions.owners_changed()
        patient.deletions.round()
    assert (patient.endings("ann"), patient.endings("bob")) == ([Ending.CANCELLED], [])


def test_what_has_to_stay_is_not_looked_at_all_the_time(
    cluster: SimClusterThread, clock: Clock, patient: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portion of which nothing could be removed is no reason to read the whole journal again soon."""
    ticks = SimpleNamespace(now=0.0)
    monkeypatch.setattr(deletions_module, "time", SimpleNamespace(monotonic=lambda: ticks.now))
    monkeypatch.setattr("peruserd.listener.purging._MAX_PURGED", 1)
    two_that_ended_long_ago(cluster, clock, patient)
    patient.deletions.owners_changed()
    patient.deletions.round()
    ticks.now += 120.0
    cluster.clear_requests()
    patient.deletions.round()
    assert cluster.requests() == {}


def test_without_a_list_of_shard_maps_each_database_is_asked_for(
    cluster: SimClusterThread, clock: Clock, patient: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal of a server without shards does not grow for ever either."""
    two_that_ended_long_ago(cluster, clock, patient)
    monkeypatch.setattr(patient.client, "missing_databases", lambda _: None)
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert (patient.endings("ann"), patient.endings("bob")) == ([Ending.CANCELLED], [])


def test_only_what_is_at_hand_is_on_disk(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, patient: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that gives way to one due sooner leaves the disk, too."""
    monkeypatch.setattr("peruserd.listener.pending.MAX_KEPT", 2)
    for user in ("ann", "bob"):
        deleted_user(cluster, patient, user)
    hasty = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=3_600.0)
    other = Desk(cluster, clock, tmp_path / "two.sqlite", config=hasty)
    for user in ("cid", "dan"):
        deleted_user(cluster, other, user)
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert {each.document for each in patient.store.deletions()} == {user_document_id(user) for user in ("cid", "dan")}


def test_only_so_many_are_kept_at_hand(cluster: SimClusterThread, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry beyond the bound is counted, stays in the journal and is carried out when there is room."""
    monkeypatch.setattr("peruserd.listener.pending.MAX_KEPT", 2)
    users = [f"u{number}" for number in range(5)]
    for user in users:
        deleted_user(cluster, desk, user)
    standing = desk.deletions.standing()
    assert (standing.waiting, standing.uncounted) == (2, 3)
    for _ in range(4):
        desk.deletions.round()
    assert desk.drops == 5
    assert desk.deletions.standing().uncounted == 0


def test_a_cluster_that_is_away_is_not_asked_for_each(cluster: SimClusterThread, desk: Desk) -> None:
    """While most hosts are away a few are looked at, and the rest is left for later."""
    for number in range(20):
        deleted_user(cluster, desk, f"u{number}")
    cluster.partition([[1], [2, 3]])
    cluster.clear_requests()
    rest = desk.deletions.round()
    looks = sum(count for (_, _, kind), count in cluster.requests().items() if kind == "membership")
    assert (looks, rest) == (5, 15.0)


def test_a_user_who_is_not_known_any_more_is_not_asked_for_all_the_time(cluster: SimClusterThread, desk: Desk) -> None:
    """An authentication database that was made anew does not remember, however often it is asked."""
    deleted_user(cluster, desk)
    desk.client.delete_database("_users")
    desk.client.session.request("PUT", "/_users").expect(201)
    # The first look finds the copies of before gone, the second one asks those that are there.
    desk.deletions.round()
    desk.deletions.served(user_document_id("ann"))
    desk.deletions.round()
    cluster.clear_requests()
    assert desk.deletions.round() == 600.0
    assert cluster.requests() == {}
