"""The auditor of a listener, on a simulated cluster, with a store and a tracker that only note what they are told."""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pytest
from structlog.testing import capture_logs

from peruserd.core.audit.diagnosis import Rules
from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import MAX_LOGGED, Pace, Part, Rounds, Summary
from peruserd.core.cluster.views import Copy
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import Range
from peruserd.core.users import security
from peruserd.core.users.quarantine import Advice
from peruserd.core.users.templates import NO_TEMPLATES, Template, Templates
from peruserd.couch.copies import ShardLayout, copies_of
from peruserd.couch.observing import open_observer
from peruserd.couch.sources import open_source
from peruserd.listener import auditing, feed
from peruserd.listener.audit_tools import Tools
from peruserd.listener.auditing import Auditor
from peruserd.listener.feed import Stopped
from peruserd.listener.template_writer import open_template_writer
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.waiting import PATIENCE_SECONDS

LOW = Range(0, 0x7FFFFFFF)
NODE = "node1@127.0.0.1"
SOON = 0.05


class Audit:
    """An auditor of node 1's copy of the lower range; by default its instance owns every document there."""

    def __init__(
        self,
        cluster: SimClusterThread,
        *,
        rounds: Rounds | None = None,
        mine: Callable[[str], bool] = lambda _id: True,
        interval: float = SOON,
        templates: Templates = NO_TEMPLATES,
        policy: DeletionPolicy = DeletionPolicy.REVOKE,
        noted: Collection[str] = (),
    ) -> None:
        self.kept = Rounds() if rounds is None else rounds
        self.history: list[Rounds] = []
        self.looked_at: list[str] = []
        # How often the listener answers that too many users wait.
        self.full_for = 0
        self.asked_for_room = 0
        self.stopping = threading.Event()
        self.pace = Pace(interval, 100_000.0)
        self._until = 1
        client = connect(cluster.urls[0])
        shard_map = client.shard_map("_local", "_users")
        assert shard_map is not None
        copy = Copy("_users", LOW, NODE, shard_map.suffix)
        template_writer = open_template_writer(client, ShardLayout(client, "_local", "_users"), "peruserd", templates)
        self.auditor = Auditor(
            Tools(
                client=client,
                copy=copy,
                source=open_source(copy, client),
                observer=open_observer(client, copy, "userdb-", template_writer.reader()),
                others=lambda: [each for each in copies_of(shard_map, [LOW]) if each.node != NODE],
                rules=lambda: Rules(DatabasesConfig(), DeletionConfig(policy=policy), 3),
                mine=lambda document_id: document_hash(document_id) in LOW and mine(document_id),
                is_calm=lambda: True,
                look=self._look,
                has_room=self._has_room,
                waits=lambda document_id: document_id in noted,
                on_change=lambda: None,
            ),
            self,
            self.pace,
            self.stopping,
        )

    def rounds(self) -> Rounds:
        """Return what is on disk."""
        return self.kept

    def keep_rounds(self, rounds: Rounds) -> None:
        """Note what goes to disk; stop the auditor after the last wanted round."""
        self.kept = rounds
        self.history.append(rounds)
        if rounds.running is None and rounds.number >= self._until:
            self.stopping.set()

    def _look(self, document_ids: Collection[str]) -> None:
        self.looked_at += document_ids

    def _has_room(self) -> bool:
        self.asked_for_room += 1
        return self.asked_for_room > self.full_for

    def until_round(self, number: int) -> Summary:
        """Run until that round has ended; return its summary."""
        self._until = number
        with pytest.raises(Stopped):
            self.auditor.run()
        assert self.auditor.status.last is not None
        return self.auditor.status.last


def served(cluster: SimClusterThread, count: int) -> list[str]:
    """Sign up twice as many users, and return those of the lower range, who have their databases."""
    users = cluster.seed_users(2 * count + 20, provisioned_prefix="userdb-")
    return [each for each in users if document_hash(user_document_id(each)) in LOW][:count]


def ids(users: Sequence[str]) -> list[str]:
    """Return the ids of user documents."""
    return [user_document_id(each) for each in users]


def test_a_round_of_users_who_are_served_finds_nothing(cluster: SimClusterThread) -> None:
    """Every user of the range is looked at, none of another range, and nothing is written."""
    served(cluster, 30)
    copies = cluster.snapshot_copies("_users")[NODE][str(LOW)]
    cluster.clear_requests()
    audit = Audit(cluster)
    summary = audit.until_round(1)
    assert (summary.users, summary.findings) == (sum(each.startswith("org.") for each in copies["revs"]), {})
    assert audit.looked_at == []
    assert cluster.writes() == []


@pytest.mark.parametrize("policy", list(DeletionPolicy))
def test_a_database_that_is_to_be_dropped_and_was_never_noted_is_looked_at(
    cluster: SimClusterThread, policy: DeletionPolicy
) -> None:
    """The policy was another one at the deletion, or the journal was lost. A waiting deletion is no finding."""
    gone, waiting, dropped = served(cluster, 3)
    client = connect(cluster.urls[0])
    for user in (gone, waiting, dropped):
        path = f"/_users/{quote(user_document_id(user), safe='')}"
        rev = client.session.request("GET", path).expect(200).decode(dict[str, Any])["_rev"]
        client.session.request("DELETE", path, params={"rev": rev}).expect(200)
        client.put_security(database_name("userdb-", user), security.CLOSED)
    client.delete_database(database_name("userdb-", dropped))
    audit = Audit(cluster, policy=policy, noted=ids([waiting]))
    assert audit.until_round(1).findings == {}
    assert audit.looked_at == (ids([gone]) if policy is DeletionPolicy.DROP else [])


def test_users_whose_database_is_not_right_are_looked_at(cluster: SimClusterThread) -> None:
    """The tracker gets the users whom a look repairs; a database without a user is reported and left alone."""
    users = served(cluster, 10)
    client = connect(cluster.urls[0])
    missing, public, options = users[:3]
    for user in (missing, options):
        client.delete_database(database_name("userdb-", user))
    client.create_database(database_name("userdb-", options), DatabasesConfig(q=2))
    client.put_security(database_name("userdb-", public), {})
    nobody = next(each for each in map("nobody{}".format, range(99)) if document_hash(user_document_id(each)) in LOW)
    client.create_database(database_name("userdb-", nobody), DatabasesConfig())
    audit = Audit(cluster)
    summary = audit.until_round(1)
    assert summary.findings == {
        Finding.MISSING: 1,
        Finding.NOT_NAMED: 2,
        Finding.PUBLIC: 1,
        Finding.OPTIONS: 1,
        Finding.NO_USER: 1,
    }
    assert sorted(audit.looked_at) == sorted(ids([missing, public, options]))


def test_templates_that_are_out_of_date_are_reported_and_left_to_the_rollout(cluster: SimClusterThread) -> None:
    """The audit counts and names them, requests no look, and writes nothing."""
    users = served(cluster, 3)
    client = connect(cluster.urls[0])
    client.session.request("PUT", f"/{database_name('userdb-', users[0])}/logo", body={"color": "blue"}).expect(201)
    cluster.clear_requests()
    audit = Audit(cluster, templates=Templates((Template("logo", {"color": "blue"}),)))
    with capture_logs() as logged:
        summary = audit.until_round(1)
    assert summary.findings == {Finding.TEMPLATE: summary.users - 1}
    assert audit.looked_at == []
    assert cluster.writes() == []
    words = {each["words"] for each in logged if each["event"] == "audit finding"}
    assert words == {"`peruserd templates rollout` brings logo (missing)"}


def test_a_database_of_nobody_is_found_on_whichever_page(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of databases are read page by page, and each database is found once."""
    monkeypatch.setattr(auditing, "MAX_USERS", 4)
    served(cluster, 3)
    nobodies = [each for each in map("nobody{}".format, range(9)) if document_hash(user_document_id(each)) in LOW]
    for each in nobodies:
        connect(cluster.urls[0]).create_database(database_name("userdb-", each), DatabasesConfig())
    audit = Audit(cluster)
    assert audit.until_round(1).findings == {Finding.NO_USER: len(nobodies)}
    assert audit.looked_at == []


def test_looks_are_given_once_few_wait(cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that lost everything needs looks at millions of users, and they must not all wait in memory."""
    monkeypatch.setattr(auditing, "_ASK_AGAIN_SECONDS", 0.0)
    user = served(cluster, 3)[0]
    connect(cluster.urls[0]).delete_database(database_name("userdb-", user))
    audit = Audit(cluster)
    audit.full_for = 5
    audit.until_round(1)
    assert audit.looked_at == ids([user])
    assert audit.asked_for_room == 6


def test_users_of_another_instance_are_left_alone(cluster: SimClusterThread) -> None:
    """Each user has one owner, and only the owner looks."""
    users = served(cluster, 6)
    client = connect(cluster.urls[0])
    for user in users:
        client.delete_database(database_name("userdb-", user))
    mine = {user_document_id(users[0])}
    audit = Audit(cluster, mine=mine.__contains__)
    summary = audit.until_round(1)
    assert (summary.users, summary.findings, audit.looked_at) == (1, {Finding.MISSING: 1}, list(mine))


def test_an_owner_that_changes_between_two_looks_is_noticed(cluster: SimClusterThread) -> None:
    """A finding is not counted, and causes no look, if the user has meanwhile become another instance's."""
    (user,) = served(cluster, 1)
    connect(cluster.urls[0]).delete_database(database_name("userdb-", user))
    asked: list[str] = []

    def mine(document_id: str) -> bool:
        asked.append(document_id)
        return document_id != user_document_id(user) or asked.count(document_id) < 4

    audit = Audit(cluster, mine=mine)
    assert Finding.MISSING not in audit.until_round(1).findings
    assert asked.count(user_document_id(user)) >= 4
    assert audit.looked_at == []


def test_what_the_copy_does_not_know_is_looked_at_and_reported(cluster: SimClusterThread) -> None:
    """A listener follows one copy; each round reads the ids of one of the other copies in turn."""
    users = served(cluster, 5)
    only_on_three, only_on_two, on_both = users[:3]
    cluster.forget_documents(1, "_users", ids([only_on_three, only_on_two, on_both]))
    cluster.forget_documents(2, "_users", ids([only_on_three]))
    cluster.forget_documents(3, "_users", ids([only_on_two]))
    audit = Audit(cluster)
    audit.until_round(1)
    assert audit.looked_at == ids([only_on_three, on_both])
    audit.stopping.clear()
    audit.until_round(2)
    assert set(audit.looked_at[2:]) == set(ids([only_on_two, on_both]))


def test_a_user_whose_copy_is_behind_counts_once(cluster: SimClusterThread) -> None:
    """This copy has an older revision: the ids of another copy show it, and so does its own row."""
    user = served(cluster, 3)[0]
    cluster.pause_replication(1, "_users")
    there = connect(cluster.urls[1])
    path = f"/_users/{quote(user_document_id(user), safe='')}"
    document = there.session.request("GET", path).expect(200).decode(dict[str, Any])
    cluster.partition([[1], [2, 3]])
    there.session.request("PUT", path, body={**document, "changed": True}).expect(201, 202)
    cluster.heal()
    audit = Audit(cluster)
    assert audit.until_round(1).findings == {Finding.COPY_BEHIND: 1}
    assert audit.looked_at == ids([user])


def test_documents_with_odd_bytes_in_their_ids_are_no_copy_behind(cluster: SimClusterThread) -> None:
    """CouchDB shows them under the id of another document, and that document does not have their revisions."""
    client = connect(cluster.urls[0])
    overlong = b"org.couchdb.user:\xe0\x81\xa1"
    numbers = (each for each in range(1_000) if crc32(overlong + b"%d" % each) in LOW)
    number = next(each for each in numbers if document_hash(user_document_id(f"a{each}")) in LOW)
    cluster.add_user(f"a{number}", "pass")
    client.create_database(database_name("userdb-", f"a{number}"), DatabasesConfig())
    client.put_security(database_name("userdb-", f"a{number}"), security.first(f"a{number}"))
    body = {"name": f"a{number}", "type": "user", "roles": [], "password": "x"}
    path = f"/_users/org.couchdb.user%3A%E0%81%A1{number}"
    client.session.request("PUT", path, body=body).expect(201, 202)
    audit = Audit(cluster)
    assert (audit.until_round(1).findings, audit.looked_at) == ({}, [])


def test_another_copy_is_read_in_the_place_of_one_that_is_away(cluster: SimClusterThread) -> None:
    """The copy whose turn it is is down. The next copy knows a user whom ours does not know."""
    users = served(cluster, 3)
    cluster.forget_documents(1, "_users", ids(users[:1]))
    cluster.stop_node(3)
    audit = Audit(cluster)
    assert audit.until_round(1).findings[Finding.COPY_BEHIND] >= 1
    assert ids(users[:1])[0] in audit.looked_at


@pytest.mark.parametrize("outcome", [400, 403, 409, 413, 500])
def test_another_copy_is_read_in_the_place_of_one_that_is_closed(cluster: SimClusterThread, outcome: int) -> None:
    """A proxy answers in place of the copy whose turn it is, for ever and with anything."""
    users = served(cluster, 3)
    cluster.forget_documents(1, "_users", ids(users[:1]))
    cluster.fail(1, outcome, path_regex="node3.*_changes")
    audit = Audit(cluster)
    assert audit.until_round(1).findings[Finding.COPY_BEHIND] >= 1
    assert ids(users[:1])[0] in audit.looked_at


def test_copies_that_are_closed_all_keep_no_user_from_the_audit(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That part is left out, and the log says so."""
    monkeypatch.setattr(auditing, "_BLIND", Backoff(initial_seconds=0.001, max_seconds=0.001))
    (missing, *_) = served(cluster, 5)
    connect(cluster.urls[0]).delete_database(database_name("userdb-", missing))
    cluster.fail(1, 403, path_regex="node[23].*_changes")
    with capture_logs() as lines:
        assert Audit(cluster).until_round(1).findings == {Finding.MISSING: 1}
    assert [line["part"] for line in lines if line["event"] == "a part of the audit was left out"] == ["other_copy"]


def test_a_round_goes_on_where_it_was(cluster: SimClusterThread) -> None:
    """After a restart the round continues behind the last user, and its summary is about the whole round."""
    served(cluster, 60)
    first = Audit(cluster)
    whole = first.until_round(1)
    halfway = next(each for each in first.history if each.running is not None and each.running.users >= 20)
    assert halfway.running is not None
    assert (halfway.running.part, halfway.running.users) == (Part.USERS, 20)
    again = Audit(cluster, rounds=halfway)
    summary = again.until_round(1)
    assert summary.users == whole.users
    assert next(each.running.part for each in again.history if each.running is not None) is Part.USERS
    assert again.kept.number == 1


def test_a_round_of_another_life_of_the_copy_begins_again(cluster: SimClusterThread) -> None:
    """A copy that was made anew has other sequences."""
    served(cluster, 30)
    first = Audit(cluster)
    whole = first.until_round(1)
    halfway = next(each for each in first.history if each.running is not None and each.running.users >= 20)
    cluster.rebuild_copy(1, "_users", str(LOW))
    again = Audit(cluster, rounds=halfway)
    summary = again.until_round(2)
    assert (summary.users, again.kept.number) == (whole.users, 2)


def test_failures_of_the_server_are_no_findings(cluster: SimClusterThread) -> None:
    """The auditor waits until failures are over, also strange answers of a proxy; the round then ends as usual."""
    served(cluster, 10)
    audit = Audit(cluster)
    for outcome in (500, "cut", 503):
        cluster.fail(1, outcome, count=1)
    assert audit.until_round(1).findings == {}


def test_a_page_that_is_closed_keeps_no_user_from_the_audit(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy forbids `_revs_diff`: that part is left out with a log line, and users are still checked."""
    monkeypatch.setattr(feed, "_BACKOFF", dict.fromkeys(Advice, Backoff(initial_seconds=0.001, max_seconds=0.001)))
    (missing, *_) = served(cluster, 5)
    connect(cluster.urls[0]).delete_database(database_name("userdb-", missing))
    cluster.fail(1, 403, path_regex="_revs_diff")
    with capture_logs() as lines:
        assert Audit(cluster).until_round(1).findings == {Finding.MISSING: 1}
    assert [line["part"] for line in lines if line["event"] == "a part of the audit was left out"] == ["other_copy"]


class HealingBackoff:
    """A substitute for the back-off while no user can be confirmed; the cluster heals during the wait."""

    def __init__(self, cluster: SimClusterThread) -> None:
        self.cluster = cluster
        self.audit: Audit | None = None
        self.waits = 0

    def delay(self, _failures: int, _chance: float) -> float:
        """Return how long to wait."""
        assert self.audit is not None
        running = self.audit.kept.running
        if running is not None and running.part is Part.USERS:
            self.waits += 1
            self.cluster.heal()
        return 0.0


def test_a_cluster_without_a_majority_is_waited_for(cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user can be confirmed for a while. That alone is no finding."""
    served(cluster, 5)
    healing = HealingBackoff(cluster)
    monkeypatch.setattr(auditing, "_BLIND", healing)
    cluster.partition([[1], [2, 3]])
    healing.audit = Audit(cluster)
    assert healing.audit.until_round(1).findings == {}
    assert healing.waits


def test_the_log_names_the_first_users_of_a_kind_and_counts_the_rest(cluster: SimClusterThread) -> None:
    """A cluster that was restored without its databases must not cause a million log lines."""
    users = served(cluster, MAX_LOGGED + 5)
    client = connect(cluster.urls[0])
    for user in users:
        client.delete_database(database_name("userdb-", user))
    with capture_logs() as lines:
        summary = Audit(cluster).until_round(1)
    assert summary.findings == {Finding.MISSING: len(users)}
    named = [line for line in lines if line["event"] == "audit finding"]
    assert len(named) == MAX_LOGGED
    assert {line["finding"] for line in named} == {"missing"}
    assert sum(line["event"].startswith("audit finding; more") for line in lines) == 1
    ended: list[Any] = [line for line in lines if line["event"] == "audit round ended"]
    assert ended[0]["findings"] == {"missing": len(users)}


def test_it_stops_promptly_in_the_middle_of_a_rest(cluster: SimClusterThread) -> None:
    """A round of a day may rest for hours between two users. The end of a listener does not wait for that."""
    served(cluster, 5)
    audit = Audit(cluster, interval=86_400.0)
    thread = threading.Thread(target=_run_to_stop, args=(audit,))
    thread.start()
    audit.stopping.set()
    thread.join(10.0)
    assert not thread.is_alive()


def test_another_interval_counts_in_the_middle_of_a_rest(
    cluster: SimClusterThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reload the next round need not wait for a day, and neither need the rest of this one."""
    monkeypatch.setattr(auditing, "_PACE_SECONDS", 0.01)
    served(cluster, 5)
    now = time.time()
    audit = Audit(cluster, rounds=Rounds(last=Summary(now, now, 0, {}), number=1))
    audit.pace.change(86_400.0, 100_000.0)
    audit.auditor._begin_in_peace = lambda: None  # type: ignore[method-assign]
    audit._until = 3
    thread = threading.Thread(target=_run_to_stop, args=(audit,))
    thread.start()
    assert not audit.stopping.wait(0.1)
    audit.pace.change(SOON, 100_000.0)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert audit.kept.number == 3


def _run_to_stop(audit: Audit) -> None:
    with pytest.raises(Stopped):
        audit.auditor.run()
