import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import structlog

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy, OnReturn
from peruserd.core.configuration.config import DeletionConfig
from peruserd.core.deletions.journal import Ending, Entry, Kind, Pause, PauseReason, Saying, State, Word
from peruserd.core.users.evidence import Verdict
from peruserd.core.users.facts import CopyReading
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.listener import deletions as deletions_module
from peruserd.listener.provisioner import Provisioner
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect
from tests.listener.deletions_harness import (
    DROP_LATER,
    FREED,
    WEEK,
    Clock,
    DeletionsHarness,
    deleted_user,
    held_return,
    make_database,
    sign_up,
)
from tests.listener.provisioner_harness import ProvisionerHarness, delete_user


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
def harness(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> DeletionsHarness:
    """The deletions of the instance beside node 1, without a grace period."""
    return DeletionsHarness(cluster, clock, tmp_path / "one.sqlite")


@pytest.fixture
def patient(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> DeletionsHarness:
    """The deletions of the instance beside node 1, with the grace period of seven days."""
    return DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)


# Dropped


def test_without_a_grace_period_it_is_dropped_at_once(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """A noted deletion is carried out in the next round, ends in the journal, and is counted and logged."""
    database = deleted_user(cluster, harness)
    with structlog.testing.capture_logs() as lines:
        harness.deletions.round()
    assert database not in cluster.databases()
    assert (harness.endings("ann"), harness.drops) == ([Ending.DROPPED], 1)
    (line,) = [each for each in lines if each["event"] == "audit"]
    assert line["action"] == "drop"
    assert (line["database"], line["document"]) == (database, user_document_id("ann"))
    assert (line["sequence"], line["revision"]) == (7, harness.entries("ann")[0].revision)
    assert harness.looked_again == []


def test_an_entry_that_names_anothers_database_drops_nothing(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """An attacker who could write to the journal for a moment cannot have another user's database dropped."""
    own = deleted_user(cluster, harness)
    sign_up(cluster, harness, "bob")
    victims = database_name("userdb-", "bob")
    shard_map = harness.client.shard_map("_local", victims)
    assert shard_map is not None
    (entry,) = harness.entries("ann")
    harness.journal.note(msgspec.structs.replace(entry, database=victims, suffix=shard_map.suffix))
    harness.deletions.owners_changed()
    harness.deletions.round()
    assert (victims in cluster.databases(), own in cluster.databases()) == (True, False)


def test_after_the_grace_period_it_is_dropped(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """A database stays for seven days, and is dropped after them."""
    database = deleted_user(cluster, patient)
    patient.deletions.round()
    clock.advance(WEEK - 60)
    patient.deletions.round()
    assert database in cluster.databases()
    clock.advance(120)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert patient.endings("ann") == [Ending.DROPPED]


def test_a_round_waits_until_something_is_due(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """An entry that is not due costs nothing: no request is made for it before its date."""
    deleted_user(cluster, patient)
    patient.deletions.round()
    cluster.clear_requests()
    for _ in range(3):
        patient.deletions.round()
    assert cluster.requests() == {}
    clock.advance(WEEK - 100)
    assert 0 < patient.deletions.round() <= 101


def test_what_was_noted_twice_is_one_entry(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """A tombstone that is met live, in a scan and by another instance is noted once, and keeps its date."""
    deleted_user(cluster, patient)
    (before,) = patient.entries("ann")
    patient.note("ann")
    assert patient.entries("ann") == [before]


def test_a_deletion_without_a_database_is_not_noted(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """Where there is nothing to drop nothing is written."""
    cluster.add_user("ann", "secret")
    delete_user(harness.client, "ann")
    harness.note("ann")
    assert harness.entries("ann") == []


@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.KEEP])
def test_only_the_policy_drop_drops(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, harness: DeletionsHarness, policy: DeletionPolicy
) -> None:
    """Another policy notes nothing, and earlier entries wait until their policy is in force again."""
    database = deleted_user(cluster, harness)
    other = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite", config=DeletionConfig(policy=policy))
    deleted_user(cluster, other, "bob")
    other.deletions.round()
    assert other.entries("bob") == []
    assert database in cluster.databases()


def test_nodes_that_are_gone_for_good_stand_in_no_ones_way(tmp_path: Path) -> None:
    """In a cluster with removed nodes in its list, a drop needs only the hosts of the database."""
    with SimClusterThread(ClusterOptions(nodes=5, n=3)) as cluster:
        client = connect(cluster.urls[0])
        client.session.request("PUT", "/peruserd", params={"q": "1", "n": "5"}).expect(201)
        harness = DeletionsHarness(cluster, Clock(cluster), tmp_path / "one.sqlite")
        names = [f"u{number}" for number in range(30)]
        for user in names:
            sign_up(cluster, harness, user)
        hosts = {user: hosts_of(harness, user) for user in names}
        user = next(
            user
            for user in names
            if hosts[user] <= set(cluster.node_names[:4]) and on_first_four(cluster, harness, user)
        )
        delete_user(client, user)
        harness.note(user)
        cluster.stop_node(5)
        harness.deletions.round()
        assert harness.endings(user) == [Ending.DROPPED]


def hosts_of(harness: DeletionsHarness, user: str) -> set[str]:
    """Return the nodes that host a user's database."""
    shard_map = harness.client.shard_map("_local", database_name("userdb-", user))
    assert shard_map is not None
    return {node for nodes in shard_map.hosts.values() for node in nodes}


def on_first_four(cluster: SimClusterThread, harness: DeletionsHarness, user: str) -> bool:
    """Say whether all copies of a user document are on the first four nodes."""
    return {each.node for each in harness.copies.evidence(user_document_id(user)).readings} <= set(
        cluster.node_names[:4]
    )


# Kept


def test_a_user_who_comes_back_keeps_everything(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """If the user document is live on the due date, the deletion ends, and the user is looked at again."""
    database = deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    clock.advance(WEEK + 60)
    patient.deletions.round()
    assert database in cluster.databases()
    assert patient.endings("ann") == [Ending.RETURNED]
    assert patient.looked_again == [user_document_id("ann")]


def test_a_user_who_is_served_ends_the_deletion_at_once(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """Long before its date a deletion ends when its user is there again."""
    deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    assert patient.endings("ann") == [Ending.RETURNED]


def test_a_user_deleted_anew_has_a_grace_period_anew(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """A second deletion is another entry with a date of its own, and the first one ends."""
    database = deleted_user(cluster, patient)
    clock.advance(WEEK - 60)
    cluster.add_user("ann", "secret")
    delete_user(patient.client, "ann")
    clock.advance(120)
    patient.deletions.round()
    assert database in cluster.databases()
    assert sorted(map(str, patient.endings("ann"))) == ["None", "superseded"]
    clock.advance(WEEK + 60)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert sorted(map(str, patient.endings("ann"))) == ["dropped", "superseded"]


def test_another_database_of_the_name_is_not_dropped(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """A new database under the noted name is not dropped."""
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


def test_a_database_that_somebody_deleted_is_no_drop(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """A database that is already gone is not counted as dropped."""
    database = deleted_user(cluster, harness)
    harness.client.delete_database(database)
    harness.deletions.round()
    assert (harness.endings("ann"), harness.drops) == ([Ending.GONE], 0)


def test_a_document_that_never_was_keeps_its_database(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """An authentication database that was deleted and made again knows no user. That is not a deletion of users."""
    database = deleted_user(cluster, harness)
    harness.client.delete_database("_users")
    harness.client.session.request("PUT", "/_users").expect(201)
    harness.deletions.round()
    assert database in cluster.databases()
    assert harness.endings("ann") == [None]


@pytest.mark.parametrize("groups", [[[1], [2, 3]], [[1], [2], [3]]])
def test_nothing_is_dropped_by_a_minority(
    cluster: SimClusterThread, harness: DeletionsHarness, groups: list[list[int]]
) -> None:
    """A node cut off from the hosts of a document, of a database or of the journal drops nothing until it is back."""
    database = deleted_user(cluster, harness)
    cluster.partition(groups)
    harness.deletions.round()
    assert database in cluster.databases()
    cluster.heal()
    cluster.replicate()
    harness.deletions.served(user_document_id("ann"))
    harness.deletions.round()
    assert database not in cluster.databases()


def test_one_host_of_three_that_is_away_stands_in_no_ones_way(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """A majority of the hosts is enough."""
    database = deleted_user(cluster, harness)
    cluster.stop_node(3)
    harness.deletions.round()
    assert database not in cluster.databases()


def test_nothing_is_dropped_while_the_journal_cannot_be_trusted(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """While the leases cannot be read, or the journal is open to others, nothing is dropped."""
    database = deleted_user(cluster, harness)
    harness.deletions.take_news(frozenset(), pause_changed=False, usable=False)
    harness.deletions.round()
    assert database in cluster.databases()
    harness.deletions.take_news(frozenset(), pause_changed=False, usable=True)
    harness.deletions.round()
    assert database not in cluster.databases()


def test_a_journal_that_cannot_be_trusted_any_more_ends_a_round(
    cluster: SimClusterThread, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news that the journal is open to others stops the round, after a drop that has begun."""
    databases = [deleted_user(cluster, harness, user) for user in ("ann", "bob")]
    distrusted = partial(harness.deletions.take_news, frozenset(), pause_changed=False, usable=False)
    harness.before_each_drop(monkeypatch, distrusted)
    harness.deletions.round()
    assert harness.drops == 1
    assert len([each for each in databases if each in cluster.databases()]) == 1


def test_nothing_is_dropped_for_another_owner(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """An entry is forgotten once its document belongs to another instance."""
    database = deleted_user(cluster, harness)
    harness.mine = False
    harness.deletions.round()
    assert database in cluster.databases()
    harness.deletions.owners_changed()
    assert harness.deletions.status().waiting == 0
    harness.deletions.round()
    assert harness.store.deletions() == []


# Clocks


def test_a_node_whose_clock_is_wrong_hastens_nothing(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """Our own clock and one node's are ahead by weeks. Nothing is dropped, because two other clocks disagree."""
    database = deleted_user(cluster, patient)
    clock.advance(WEEK + 60, nodes=(1,))
    patient.deletions.round()
    assert database in cluster.databases()
    clock.advance(0)
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    assert database not in cluster.databases()


def test_a_clock_that_is_behind_shortens_no_grace_period(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """A deletion noted by a machine whose clock is a month behind is due seven days from now all the same."""
    clock.advance(-4 * WEEK, nodes=())
    database = deleted_user(cluster, patient)
    clock.advance(4 * WEEK, nodes=())
    patient.deletions.round()
    assert database in cluster.databases()


def test_a_clock_that_is_behind_shortens_no_grace_period_of_a_second_deletion(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """The successor of a superseded entry is dated as carefully as the first entry."""
    deleted_user(cluster, patient)
    cluster.add_user("ann", "secret")
    delete_user(patient.client, "ann")
    clock.advance(-4 * WEEK, nodes=())
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    clock.advance(4 * WEEK, nodes=())
    (anew,) = [each for each in patient.entries("ann") if each.is_open]
    assert anew.due_at > clock() + WEEK - 60


def test_limits_of_a_reload_count_for_later_deletions(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """What was noted before keeps its date. The breaker counts by the new limit at once."""
    deleted_user(cluster, patient, "ann")
    patient.deletions.config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=3_600.0, max_drops=7)
    deleted_user(cluster, patient, "bob")
    (early,), (late,) = (patient.entries(each) for each in ("ann", "bob"))
    assert early.due_at > clock() + WEEK - 60
    assert late.due_at < clock() + 3_660
    assert patient.deletions._dropper._config().max_drops == 7


# Words and the pause


def test_a_cancelled_deletion_is_not_made(cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness) -> None:
    """The operator's `cancel` ends the deletion, even if a scan meets the tombstone again."""
    database = deleted_user(cluster, patient)
    patient.say("ann", Saying(Word.CANCEL))
    patient.deletions.round()
    assert patient.endings("ann") == [Ending.CANCELLED]
    patient.note("ann")
    clock.advance(2 * WEEK)
    patient.deletions.round()
    assert database in cluster.databases()


@pytest.mark.parametrize("word", [Word.CANCEL, Word.HOLD])
def test_a_word_that_keeps_a_database_outlives_a_user_who_comes_back_and_goes_again(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness, word: Word
) -> None:
    """Anybody can sign up under a name that is free and be deleted again; that undoes no operator's word."""
    database = deleted_user(cluster, patient)
    patient.say("ann", Saying(word))
    patient.deletions.round()
    cluster.add_user("ann", "secret")
    patient.deletions.served(user_document_id("ann"))
    patient.deletions.round()
    delete_user(patient.client, "ann")
    patient.note("ann")
    clock.advance(2 * WEEK)
    patient.deletions.round()
    assert database in cluster.databases()
    patient.say("ann", Saying())
    patient.deletions.round()
    assert (database in cluster.databases()) == (word is Word.CANCEL)


@pytest.mark.parametrize("ending", [Ending.RETURNED, Ending.CANCELLED])
def test_many_earlier_deletions_of_a_user_make_the_next_one_take_no_longer(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness, ending: Ending
) -> None:
    """Anybody can sign up and be deleted again and again, and a worker would read the words on each of them."""
    deleted_user(cluster, patient)
    (entry,) = patient.entries("ann")
    patient.journal.change(entry.id, lambda _: entry.ended(ending, clock()))
    for number in range(20):
        earlier = msgspec.structs.replace(entry, revision=f"{number}-{32 * 'a'}")
        patient.journal.note(earlier.ended(ending, clock()))
    cluster.add_user("ann", "secret")
    delete_user(patient.client, "ann")
    before = sum(cluster.requests().values())
    patient.note("ann")
    assert sum(cluster.requests().values()) - before < 20


def test_a_word_of_an_earlier_deletion_hastens_no_later_one(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
) -> None:
    """CouchDB can show the same tombstone again after a user had come back: it has its grace period anew."""
    database = deleted_user(cluster, patient)
    (entry,) = patient.entries("ann")
    patient.journal.say(entry.id, lambda _: Saying(Word.DROP_NOW, resumed=True))
    patient.journal.change(entry.id, lambda _: entry.ended(Ending.RETURNED, clock()))
    patient.deletions.take_news(frozenset({entry.id}), pause_changed=False, usable=True)
    patient.deletions.round()
    patient.note("ann")
    patient.deletions.take_news(frozenset({entry.id}), pause_changed=False, usable=True)
    patient.deletions.round()
    assert database in cluster.databases()
    clock.advance(2 * WEEK)
    patient.deletions.round()
    assert database not in cluster.databases()


def test_an_operator_can_hasten_one(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """`drop-now` does not wait for the date, and drops only that database."""
    database, other = deleted_user(cluster, patient), deleted_user(cluster, patient, "bob")
    patient.say("ann", Saying(Word.DROP_NOW))
    patient.deletions.round()
    assert database not in cluster.databases()
    assert other in cluster.databases()


def test_a_held_deletion_waits(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """`hold` keeps a database until another order."""
    database = deleted_user(cluster, harness)
    harness.say("ann", Saying(Word.HOLD))
    harness.deletions.round()
    assert database in cluster.databases()
    harness.say("ann", Saying())
    harness.deletions.round()
    assert database not in cluster.databases()


def test_a_pause_is_for_all_but_those_resumed(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """During a pause only deletions that were resumed by name go on; the others follow after the pause."""
    database, other = deleted_user(cluster, harness), deleted_user(cluster, harness, "bob")
    harness.journal.set_pause(Pause(paused=True))
    harness.say("ann", Saying(resumed=True))
    harness.deletions.round()
    assert (database in cluster.databases(), other in cluster.databases()) == (False, True)
    harness.journal.set_pause(Pause())
    harness.deletions.take_news(frozenset(), pause_changed=True, usable=True)
    harness.deletions.round()
    assert other not in cluster.databases()


def test_a_pause_said_on_one_side_of_a_cut_holds_after_it(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """A pause and a resume that were written at the same time count as a pause."""
    database = deleted_user(cluster, harness)
    harness.journal.set_pause(Pause(at=1.0))
    cluster.partition([[1], [2, 3]])
    with pytest.raises(Exception, match="minority"):
        harness.journal.set_pause(Pause(paused=True, at=2.0))
    DeletionJournal(Journal(connect(cluster.urls[1]).session, "peruserd")).set_pause(Pause(at=3.0))
    cluster.heal()
    cluster.replicate()
    harness.deletions.round()
    assert database in cluster.databases()


def test_a_pause_that_cannot_be_read_is_a_pause(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """Any error in reading the pause keeps the databases."""
    database = deleted_user(cluster, harness)
    cluster.fail(1, 500, path_regex="/peruserd/pause")
    harness.deletions.round()
    assert database in cluster.databases()
    cluster.clear_faults()
    harness.deletions.take_news(frozenset(), pause_changed=True, usable=True)
    harness.deletions.round()
    assert database not in cluster.databases()


# The breaker


def test_too_many_drops_stop_all(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """The first drop beyond the limit pauses the whole cluster, logs that, and waits for the operator."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=3)
    harnesses = [
        DeletionsHarness(cluster, clock, tmp_path / f"{node}.sqlite", node=node, config=config) for node in (1, 2)
    ]
    users = [f"u{number}" for number in range(6)]
    for number, user in enumerate(users):
        deleted_user(cluster, harnesses[number % 2], user)
    for harness in harnesses:
        harness.mine = True
    with structlog.testing.capture_logs() as lines:
        for harness in harnesses:
            harness.deletions.round()
    assert sum(harness.drops for harness in harnesses) == 3
    pause = harnesses[0].journal.pause()
    assert (pause.paused, pause.why) == (True, PauseReason.BREAKER)
    assert any("too many" in each["event"] and each["log_level"] == "error" for each in lines)
    left = [user for user in users if database_name("userdb-", user) in cluster.databases()]
    assert len(left) == 3
    assert {harnesses[0].endings(user)[0] for user in left} == {None}
    now = clock()
    harnesses[0].journal.set_pause(Pause(at=now, resumed_at=now))
    for harness in harnesses:
        harness.deletions.take_news(frozenset(), pause_changed=True, usable=True)
        harness.deletions.round()
    assert [each for each in cluster.databases() if each.startswith("userdb-")] == []


def test_a_database_that_nobody_wrote_to_does_not_count(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Users who sign up and leave without data do not open the breaker."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    for number in range(4):
        deleted_user(cluster, harness, f"u{number}", documents=0)
    deleted_user(cluster, harness, "ann")
    harness.deletions.round()
    assert harness.drops == 5
    assert not harness.journal.pause().paused


def test_drops_of_long_ago_do_not_count(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """The breaker counts only drops within its period."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    for user in ("ann", "bob"):
        deleted_user(cluster, harness, user)
        harness.deletions.round()
        clock.advance(700)
    assert harness.drops == 2


def test_a_drop_that_failed_for_long_counts_when_it_is_made(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Drops that failed for hours, and all succeed once the cluster is healthy, open the breaker like others."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    database = deleted_user(cluster, harness)
    cluster.fail(1, 500, count=1, method="DELETE", path_regex="userdb")
    harness.deletions.round()
    assert harness.entries("ann")[0].state is State.DROPPING
    clock.advance(700)
    deleted_user(cluster, harness, "bob")
    harness.deletions.round()
    assert harness.endings("bob") == [Ending.DROPPED]
    assert database in cluster.databases()
    assert harness.journal.pause().why is PauseReason.BREAKER


def test_a_resumption_of_the_future_leaves_no_gap_in_the_breaker(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """An operator's machine whose clock is a day ahead does not keep drops from being counted for a day."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    for user in ("ann", "bob"):
        deleted_user(cluster, harness, user)
    tomorrow = clock() + 86_400
    harness.journal.set_pause(Pause(at=tomorrow, resumed_at=tomorrow))
    harness.deletions.round()
    assert harness.drops == 1
    assert harness.journal.pause().why is PauseReason.BREAKER


YEAR = 365 * 86_400.0


def test_a_clock_that_was_ahead_keeps_no_database_for_years(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness
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
    cluster: SimClusterThread, clock: Clock, harness: DeletionsHarness
) -> None:
    """The deletion was due when it was noted, so the wrong date does not matter."""
    clock.advance(YEAR, nodes=())
    deleted_user(cluster, harness)
    clock.advance(-YEAR, nodes=())
    harness.deletions.round()
    assert harness.endings("ann") == [Ending.DROPPED]


def test_drops_of_a_clock_that_was_ahead_do_not_count_for_ever(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path
) -> None:
    """Otherwise the breaker would be open for good, and no `resume` would close it."""
    config = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=0.0, max_drops=1, per_seconds=600.0)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    clock.advance(YEAR, nodes=())
    deleted_user(cluster, harness)
    harness.deletions.round()
    clock.advance(-YEAR, nodes=())
    for user in ("bob", "eve"):
        deleted_user(cluster, harness, user)
        harness.deletions.round()
    assert (harness.drops, harness.endings("bob")) == (2, [Ending.DROPPED])
    assert harness.journal.pause().why is PauseReason.BREAKER


# Crashes


def test_what_was_noted_is_found_without_the_state(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """An instance whose state directory is lost, or another owner, reads the journal and goes on."""
    database = deleted_user(cluster, DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER))
    clock.advance(WEEK + 60)
    successor = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite", node=2, config=DROP_LATER)
    successor.deletions.round()
    assert database not in cluster.databases()


def test_what_is_kept_on_disk_is_known_at_once(cluster: SimClusterThread, clock: Clock, tmp_path: Path) -> None:
    """After a restart the waiting entries are known before the journal is read."""
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    deleted_user(cluster, harness)
    (entry,) = harness.entries("ann")
    harness.store.close()
    again = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    assert again.deletions.status().waiting == 1
    assert again.deletions.status().oldest_due == entry.due_at


@pytest.mark.parametrize("said", ["pause", "hold"])
def test_a_journal_that_was_lost_takes_a_grace_period_more(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, said: str
) -> None:
    """The operator's words are lost with peruserd's own database, so nothing is dropped on the word of a disk alone."""
    before = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    database = deleted_user(cluster, before)
    if said == "hold":
        before.say("ann", Saying(Word.HOLD))
    else:
        before.journal.set_pause(Pause(paused=True, at=clock()))
    before.deletions.round()
    before.store.close()
    before.client.session.request("DELETE", "/peruserd").expect(200)
    before.client.session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
    clock.advance(2 * WEEK)
    after = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=DROP_LATER)
    for _ in range(3):
        after.deletions.round()
    assert database in cluster.databases()
    (entry,) = after.entries("ann")
    assert entry.due_at > clock() + WEEK - 60
    clock.advance(2 * WEEK)
    after.deletions.round()
    assert database not in cluster.databases()


@pytest.mark.parametrize("outcome", ["cut", "cut-after", 500])
def test_a_drop_that_is_cut_off_is_made_in_the_end(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, outcome: int | str
) -> None:
    """For any failure of the request, the journal notes the beginning, and the next look completes the drop."""
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite")
    database = deleted_user(cluster, harness)
    cluster.fail(1, outcome, count=1, method="DELETE", path_regex="userdb")
    harness.deletions.round()
    assert harness.entries("ann")[0].state is State.DROPPING
    assert harness.failures
    again = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite", node=2)
    again.deletions.round()
    assert database not in cluster.databases()
    assert again.endings("ann") == [Ending.GONE if outcome == "cut-after" else Ending.DROPPED]


def test_a_drop_whose_answer_was_lost_is_in_the_log(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """The next look finds the database gone, and logs the drop as ours."""
    database = deleted_user(cluster, harness)
    cluster.fail(1, "cut-after", count=1, method="DELETE", path_regex="userdb")
    with structlog.testing.capture_logs() as lines:
        harness.deletions.round()
        harness.deletions.served(user_document_id("ann"))
        harness.deletions.round()
    assert harness.endings("ann") == [Ending.GONE]
    (line,) = [each for each in lines if each["event"] == "audit"]
    assert (line["action"], line["database"], line["incomplete"]) == ("drop", database, "answer_lost")
    assert not [each for each in lines if "without a drop" in each["event"]]


def test_a_process_that_dies_before_the_drop_has_written_what_it_meant_to_do(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance dies between journal and drop. Another one drops the database, and the breaker counts it once."""
    database = deleted_user(cluster, harness)

    def die(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(harness.client, "drop_database", die)
    with pytest.raises(KeyboardInterrupt):
        harness.deletions.round()
    again = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite", node=2)
    again.deletions.round()
    assert database not in cluster.databases()
    assert again.journal.count_drops(0.0, clock(), 10) == 1


def test_a_user_who_comes_back_in_the_moment_of_the_drop_is_served(
    cluster: SimClusterThread, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is read once more after the drop; if it is live again, its user gets a new database."""
    deleted_user(cluster, harness)
    harness.before_each_drop(monkeypatch, lambda: cluster.add_user("ann", "secret"))
    harness.deletions.round()
    assert harness.endings("ann") == [Ending.DROPPED]
    assert harness.looked_again == [user_document_id("ann")]


@pytest.mark.parametrize("is_reading", [False, True], ids=["looks during the drop", "was about to read"])
def test_a_user_who_comes_back_in_the_moment_of_the_drop_loses_nothing_that_is_new(
    cluster: SimClusterThread,
    harness: DeletionsHarness,
    monkeypatch: pytest.MonkeyPatch,
    is_reading: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A worker lets the user in once the drop is over, and not into the database that is being dropped.

    The worker can have begun its look before the drop began, and read the document after the drop's last reading.
    """
    database = deleted_user(cluster, harness)
    provisioner = ProvisionerHarness(connect(cluster.urls[0]), policy=DeletionPolicy.DROP, deletions=harness.deletions)
    reads, may_read, came_to_a_halt = threading.Event(), threading.Event(), threading.Event()

    def come_back_and_write() -> None:
        assert provisioner.ensure("ann").failure is None
        harness.client.session.request("PUT", f"/{database}/new", body={}).expect(201, 202)
        came_to_a_halt.set()

    worker = threading.Thread(target=come_back_and_write)
    let_drop_end, confirm = harness.deletions.let_drop_end, Provisioner.confirm

    def tell_and_wait(document_id: str) -> None:
        came_to_a_halt.set()
        let_drop_end(document_id)

    def read_when_allowed(reader: Provisioner, document_id: str) -> Verdict:
        reads.set()
        assert may_read.wait(30)
        return confirm(reader, document_id)

    def come_back() -> None:
        cluster.add_user("ann", "secret")
        monkeypatch.setattr(harness.deletions, "let_drop_end", tell_and_wait)
        if not is_reading:
            worker.start()
        may_read.set()
        assert came_to_a_halt.wait(30)

    monkeypatch.setattr(Provisioner, "confirm", read_when_allowed)
    harness.before_each_drop(monkeypatch, come_back)
    if is_reading:
        worker.start()
        assert reads.wait(30)
    harness.deletions.round()
    worker.join(30)
    assert harness.endings("ann") == [Ending.DROPPED]
    assert harness.client.session.request("GET", f"/{database}/new").status == 200
    assert harness.client.session.request("GET", f"/{database}/doc0").status == 404


@pytest.mark.parametrize("has_new_owner", [False, True], ids=["the user returns", "another instance owns it"])
def test_what_changes_while_it_is_decided_is_not_dropped(
    cluster: SimClusterThread,
    harness: DeletionsHarness,
    monkeypatch: pytest.MonkeyPatch,
    has_new_owner: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The database is kept if the user or another owner comes between decision and drop; nothing is counted."""
    database = deleted_user(cluster, harness)
    begin = Entry.begun

    def change_first(entry: Entry, now: float) -> Entry:
        if has_new_owner:
            harness.mine = False
        else:
            cluster.add_user("ann", "secret")
        return begin(entry, now)

    monkeypatch.setattr(Entry, "begun", change_first)
    harness.deletions.round()
    assert database in cluster.databases()
    assert harness.entries("ann")[0].state is State.WAITING
    assert harness.journal.count_drops(0.0, time.time(), 10) == 0


def test_an_accepted_drop_is_not_yet_one(
    cluster: SimClusterThread, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop by a minority of the nodes is not counted, and the entry is looked at again."""
    deleted_user(cluster, harness)
    harness.before_each_drop(monkeypatch, lambda: cluster.partition([[1], [2, 3]]))
    harness.deletions.round()
    assert harness.drops == 0


# Users who return to a database that was left


def test_a_return_is_held_until_the_operator_says_so(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """The database of a freed name stays closed; `release` lets the user in once."""
    database = held_return(cluster, patient)
    assert patient.deletions.status().held == 1
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


def test_a_release_is_not_for_a_user_who_comes_later(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """If the user is gone when the release is read, it does not hold for the next user of that name."""
    database = held_return(cluster, patient)
    delete_user(patient.client, "ann")
    patient.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    patient.deletions.round()
    assert [each.ending for each in patient.entries("ann", Kind.RETURN)] == [Ending.SUPERSEDED]
    cluster.add_user("ann", "another")
    assert not patient.deletions.admits(user_document_id("ann"), database)


@pytest.mark.parametrize("policy", [DeletionPolicy.REVOKE, DeletionPolicy.DROP])
def test_a_release_ends_with_the_deletion_of_its_user(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, policy: DeletionPolicy
) -> None:
    """The release ends also without a look since, so it does not let in the next user of that name."""
    config = DeletionConfig(policy=policy, on_return=OnReturn.HOLD)
    harness = DeletionsHarness(cluster, clock, tmp_path / "one.sqlite", config=config)
    database = held_return(cluster, harness)
    harness.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    harness.deletions.note(user_document_id("ann"), database, "3-c", None)
    assert [each.ending for each in harness.entries("ann", Kind.RETURN)] == [Ending.SUPERSEDED]
    assert not harness.deletions.admits(user_document_id("ann"), database)


def test_a_release_is_used_up_while_a_copy_is_away(cluster: SimClusterThread, patient: DeletionsHarness) -> None:
    """Most copies name the user, so the release has had its effect, whatever the last copy holds."""
    database = held_return(cluster, patient)
    patient.say("ann", Saying(Word.RELEASE), Kind.RETURN)
    cluster.stop_node(3)
    patient.client.put_security(database, {"admins": {"names": ["ann"]}, "members": {"names": ["ann"]}})
    patient.deletions.round()
    assert [each.ending for each in patient.entries("ann", Kind.RETURN)] == [Ending.RELEASED]


def test_what_was_left_can_be_dropped_for_a_user_who_came_back(
    cluster: SimClusterThread, patient: DeletionsHarness
) -> None:
    """`drop-now` of a return drops the old database, and the user gets a new one."""
    database = held_return(cluster, patient)
    patient.say("ann", Saying(Word.DROP_NOW), Kind.RETURN)
    patient.deletions.round()
    assert database not in cluster.databases()
    assert patient.looked_again == [user_document_id("ann")]


def test_a_database_that_names_its_user_is_never_dropped_for_a_return(
    cluster: SimClusterThread, patient: DeletionsHarness
) -> None:
    """A user who was let in meanwhile may have written there, so an earlier order drops nothing."""
    database = held_return(cluster, patient)
    patient.client.put_security(database, {"admins": {"names": []}, "members": {"names": ["ann"]}})
    patient.say("ann", Saying(Word.DROP_NOW), Kind.RETURN)
    patient.deletions.round()
    assert database in cluster.databases()


def test_one_that_nobody_can_judge_holds_up_no_other(
    cluster: SimClusterThread, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed security object is a failure of one entry; the others are carried out."""
    held_return(cluster, harness)
    database = deleted_user(cluster, harness, "bob")
    monkeypatch.setattr(harness.copies, "security", lambda _: (CopyReading("node1", {"admins": []}),))
    harness.deletions.round()
    assert harness.failures == ["unforeseen"]
    assert database not in cluster.databases()


# The thread


def test_the_thread_outlives_a_server_that_is_away(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """Failures are counted, and the next round follows; a stop ends the thread."""
    database = deleted_user(cluster, harness)
    cluster.fail(1, 503, count=3)
    thread = threading.Thread(target=harness.deletions.run)
    thread.start()
    while database in cluster.databases(2):
        threading.Event().wait(0.01)
    harness.deletions.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert harness.failures


def two_that_ended_long_ago(cluster: SimClusterThread, clock: Clock, harness: DeletionsHarness) -> None:
    """Set up two entries that ended a month ago: a cancelled one, whose database stays, and a carried out one."""
    deleted_user(cluster, harness)
    deleted_user(cluster, harness, "bob")
    harness.say("ann", Saying(Word.CANCEL))
    harness.say("bob", Saying(Word.DROP_NOW))
    harness.deletions.round()
    clock.advance(31 * 86_400)


def test_what_ended_long_ago_is_removed(cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness) -> None:
    """The journal does not grow for ever. An entry that protects a database stays as long as the database."""
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
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many entries that protect databases do not prevent the removal of later entries by a later reading."""
    monkeypatch.setattr("peruserd.listener.purging._MAX_PURGED", 1)
    two_that_ended_long_ago(cluster, clock, patient)
    for _ in range(2):
        patient.deletions.owners_changed()
        patient.deletions.round()
    assert (patient.endings("ann"), patient.endings("bob")) == ([Ending.CANCELLED], [])


def test_what_has_to_stay_is_not_looked_at_all_the_time(
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a portion without removable entries, the whole journal is not read again soon."""
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
    cluster: SimClusterThread, clock: Clock, patient: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal of a server without shards does not grow for ever either."""
    two_that_ended_long_ago(cluster, clock, patient)
    monkeypatch.setattr(patient.client, "missing_databases", lambda _: None)
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert (patient.endings("ann"), patient.endings("bob")) == ([Ending.CANCELLED], [])


def test_only_what_is_at_hand_is_on_disk(
    cluster: SimClusterThread, clock: Clock, tmp_path: Path, patient: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that is displaced by one due sooner leaves the disk too."""
    monkeypatch.setattr("peruserd.listener.pending.MAX_KEPT", 2)
    for user in ("ann", "bob"):
        deleted_user(cluster, patient, user)
    hasty = DeletionConfig(policy=DeletionPolicy.DROP, grace_period=3_600.0)
    other = DeletionsHarness(cluster, clock, tmp_path / "two.sqlite", config=hasty)
    for user in ("cid", "dan"):
        deleted_user(cluster, other, user)
    patient.deletions.owners_changed()
    patient.deletions.round()
    assert {each.document for each in patient.store.deletions()} == {user_document_id(user) for user in ("cid", "dan")}


def test_only_so_many_are_kept_at_hand(
    cluster: SimClusterThread, harness: DeletionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry beyond the bound is counted, stays in the journal and is carried out when there is room."""
    monkeypatch.setattr("peruserd.listener.pending.MAX_KEPT", 2)
    users = [f"u{number}" for number in range(5)]
    for user in users:
        deleted_user(cluster, harness, user)
    status = harness.deletions.status()
    assert (status.waiting, status.uncounted) == (2, 3)
    for _ in range(4):
        harness.deletions.round()
    assert harness.drops == 5
    assert harness.deletions.status().uncounted == 0


def test_a_cluster_that_is_away_is_not_asked_for_each(cluster: SimClusterThread, harness: DeletionsHarness) -> None:
    """While most hosts are away, a few entries are looked at, and the others are left for later."""
    for number in range(20):
        deleted_user(cluster, harness, f"u{number}")
    cluster.partition([[1], [2, 3]])
    cluster.clear_requests()
    rest = harness.deletions.round()
    looks = sum(count for (_, _, kind), count in cluster.requests().items() if kind == "membership")
    assert (looks, rest) == (5, 15.0)


def test_a_user_who_is_not_known_any_more_is_not_asked_for_all_the_time(
    cluster: SimClusterThread, harness: DeletionsHarness
) -> None:
    """A newly made authentication database does not know deleted users, so it is asked rarely."""
    deleted_user(cluster, harness)
    harness.client.delete_database("_users")
    harness.client.session.request("PUT", "/_users").expect(201)
    # The first look finds the earlier copies gone; the second one asks the present copies.
    harness.deletions.round()
    harness.deletions.served(user_document_id("ann"))
    harness.deletions.round()
    cluster.clear_requests()
    assert harness.deletions.round() == 600.0
    assert cluster.requests() == {}
