"""The status of an instance, from parts that stand still."""

import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from peruserd.core.audit.findings import Finding
from peruserd.core.audit.rounds import AuditStatus, Summary
from peruserd.core.cluster.leases import Lease, LeaseStatus, Role
from peruserd.core.cluster.views import Copy, Feed, View
from peruserd.core.deletions.journal import DeletionStatus, Pause, PauseReason
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.latency import SAMPLE_SECONDS
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.messages import Report, Usage
from peruserd.core.processes.status import MAX_TEXT, InstanceRole, PlanChange, Status, decode_status, encode_status
from peruserd.couch.tokens import NOBODY, Tokens
from peruserd.daemon import status as status_module
from peruserd.daemon.status import InstanceStatus
from peruserd.supervisor.attaching import Attachment
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus
from peruserd.supervisor.membership import Member
from peruserd.supervisor.plan_history import PlanHistory
from tests.daemon.fleets import report

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
MAP = ShardMap("_users", ".1", {LOWER: ("n1", "n2"), UPPER: ("n2", "n3")})
VIEW = View(nodes=("n1", "n2", "n3"), instances=("n1", "n2"), shard_map=MAP, away=("n4",))
NOW, WALL = 500.0, 1_800_000_000.0


def _listener(covered: Range, given: Report | None = None, **more: Any) -> ListenerStatus:
    copy = more.pop("copy", Copy("_users", covered, "n1", ".1"))
    parts = {"state": State.RUNNING, "reason": None, "restarts": 0, "pid": 7, "caught_up": given is not None} | more
    return ListenerStatus(copy, report=given, **parts)


def _member(*others: Lease, digest: str = "abc") -> Member:
    member = Member(incarnation="me", replaces=None, ttl_seconds=20.0, version="1.0", digest=digest)
    member.observe("n1", others, NOW - 2.0)
    member.next_lease("n1")
    return member


def _subject(
    *listeners: ListenerStatus,
    views: tuple[View, View] | None = (VIEW, VIEW),
    member: Member | None = None,
    counters: Counters | None = None,
    pause: Pause | None = None,
    clock: list[float] | None = None,
    **more: Any,
) -> InstanceStatus:
    moment = [NOW] if clock is None else clock
    fleet = FleetStatus(listeners, counters or Counters(), {}, unreadable=())
    followed = more.get("followed", None if views is None else views[0])
    supervisor = SimpleNamespace(
        views=views,
        view=followed,
        stopping=more.get("stopping", False),
        leases_readable=True,
        plan_history=SimpleNamespace(changes=more.get("plans", ())),
    )
    parts: dict[str, Any] = {
        "fleet": SimpleNamespace(status=lambda: fleet),
        "supervisor": supervisor,
        "member": member or _member(),
        "lease_renewer": SimpleNamespace(seconds_since_renewal=lambda: 1.5, maintenance=more.get("maintenance", False)),
        "cluster_reader": SimpleNamespace(attached=more.get("attached", Attachment("n1", Feed.SHARD))),
        "health": SimpleNamespace(
            healthy=lambda: (True, "ok"), ready=lambda: (False, "not caught up: x"), failing=lambda: ("cluster-watch",)
        ),
        "authenticator": SimpleNamespace(tokens=Tokens(NOBODY), trouble=more.get("trouble"), logins=2, refusals=1),
        "peruser_watch": SimpleNamespace(is_on=True),
    }
    subject = InstanceStatus(
        auth_db="_users",
        pause=lambda: pause,
        refused=lambda: more.get("refused"),
        clock=lambda: moment[0],
        wall_clock=lambda: WALL,
        **parts,
    )
    moment[0] += 60.0
    return subject


def test_a_refused_reload_is_said_until_another_one_succeeds() -> None:
    """An operator who looks at the status must see that the file is not in force. The words come from the file."""
    assert _subject().status().refused is None
    assert _subject(refused="x.toml: couchdb.urll: unknown key").status().refused == "x.toml: couchdb.urll: unknown key"
    assert len(_subject(refused="k" * 1_000).status().refused or "") == MAX_TEXT


def test_the_status_says_who_and_how_long() -> None:
    """The uptime is counted by a clock that nobody sets."""
    status = _subject().status()
    assert (status.node, status.incarnation, status.uptime, status.started) == ("n1", "me", 60.0, WALL)
    assert (status.healthy.ok, status.healthy.why) == (True, "ok")
    assert (status.ready.ok, status.ready.why) == (False, "not caught up: x")
    assert status.nodes == ("n1", "n2", "n3")
    assert (status.away, status.failing) == (("n4",), ("cluster-watch",))
    assert status.couch_peruser is True
    assert (status.authentication.let_in, status.authentication.logins, status.authentication.refusals) == (True, 2, 1)


@pytest.mark.parametrize(
    ("parts", "role"),
    [
        ({"views": None}, InstanceRole.WAITING),
        ({"followed": None}, InstanceRole.WAITING),
        ({}, InstanceRole.ACTIVE),
        ({"followed": msgspec.structs.replace(VIEW, standby=True)}, InstanceRole.STANDBY),
        ({"stopping": True}, InstanceRole.STOPPING),
    ],
)
def test_the_role_follows_from_the_view_and_the_orders(parts: dict[str, Any], role: InstanceRole) -> None:
    """A waiting instance does not know the cluster for certain, so it is not active yet."""
    assert _subject(**parts).status().role is role


def test_before_anything_is_known_there_is_a_status_all_the_same() -> None:
    """An instance that cannot reach its server is the one that people look at."""
    member = Member(incarnation="me", replaces=None, ttl_seconds=20.0, version="1.0")
    status = _subject(views=None, attached=None, member=member, trouble="the password is wrong").status()
    assert (status.node, status.nodes, status.ranges, status.listeners) == (None, None, (), ())
    assert status.authentication.trouble == "the password is wrong"
    assert decode_status(encode_status(status)) == status


def test_each_range_has_its_hosts_and_owners_and_who_is_followed_here() -> None:
    """The instance follows its own node's copy; a host without a live instance owns nothing."""
    lower, upper = _subject(_listener(LOWER)).status().ranges
    assert (lower.hosts, lower.owners, lower.followed_at) == (("n1", "n2"), ("n1", "n2"), ("n1",))
    assert (upper.hosts, upper.owners, upper.followed_at) == (("n2", "n3"), ("n2",), ())
    assert (lower.begin, lower.end, lower.readable, lower.adopted) == (0, 0x7FFFFFFF, True, False)


def test_an_adopted_range_and_one_that_nobody_can_read_are_told_apart() -> None:
    """Both are rare and important: the first is served in another way, and the second is not served at all."""
    view = msgspec.structs.replace(VIEW, nodes=("n1", "n2"), instances=("n1",))
    _, upper = _subject(views=(view, view)).status().ranges
    assert (upper.adopted, upper.readable, upper.owners) == (True, True, ("n1",))
    gone = msgspec.structs.replace(view, nodes=("n1",))
    _, upper = _subject(views=(gone, gone)).status().ranges
    assert not upper.readable


def test_a_hole_in_the_shard_map_is_a_range_that_nobody_can_read() -> None:
    """Somebody has edited the map, and users with such a hash have no owner."""
    view = msgspec.structs.replace(VIEW, shard_map=ShardMap("_users", ".1", {LOWER: ("n1",)}))
    lower, hole = _subject(views=(view, view)).status().ranges
    assert (lower.readable, hole.readable, hole.range, hole.owners) == (True, False, str(UPPER), ())


def test_a_server_without_shards_has_one_range() -> None:
    """There the one instance owns everybody."""
    view = View(("_local",), ("_local",), None)
    copy = Copy("_users", WHOLE_SPACE, "_local", feed=Feed.DATABASE)
    status = _subject(
        _listener(WHOLE_SPACE, report(checkpoint="5-xyz", shard_sequence="6-xyz"), copy=copy), views=(view, view)
    ).status()
    (whole,) = status.ranges
    assert (whole.owners, whole.followed_at, whole.readable, whole.adopted) == (("_local",), ("_local",), True, False)
    (listener,) = status.listeners
    assert (listener.lag_rows, listener.checkpoint) == (None, "5-xyz")


def test_a_listener_shows_its_state_and_its_last_report() -> None:
    """The lag is the distance from the checkpoint to the newest row seen."""
    usage = Usage(cpu_seconds=1.0, resident_bytes=5, descriptors=6, threads=7)
    times = {"oldest_waiting_since": NOW + 50.0, "read_at": NOW + 58.0}
    holding = {"on_hold": "503", "hold_kind": "server_error"}
    given = report(checkpoint=40, shard_sequence=52, waiting=3, in_flight=2, usage=usage, **times, **holding)
    first, second = (
        _subject(_listener(LOWER, given), _listener(UPPER, None, state=State.BACKOFF, reason=Reason.CRASHED, pid=None))
        .status()
        .listeners
    )
    assert (first.copy, first.range, first.node, first.pid) == ("00000000-7fffffff@n1", str(LOWER), "n1", 7)
    assert (first.lag_rows, first.waiting, first.in_flight, first.on_hold, first.usage) == (12, 3, 2, "503", usage)
    assert (first.lag_seconds, first.feed_age, first.hold_kind) == (10.0, 2.0, "server_error")
    assert (second.state, second.why, second.lag_rows, second.caught_up) == (State.BACKOFF, Reason.CRASHED, None, False)


def test_instances_say_how_old_their_leases_are_and_who_differs() -> None:
    """A lease without a digest says nothing of its configuration. The instance itself comes first."""
    member = _member(
        Lease("n2", "two", 5, digest="abc", version="0.9", address="10.0.0.2:9984"),
        Lease("n3", "three", 5, digest="other", maintenance=True),
        Lease("n4", "four", 5),
        Lease("n5", "five", 5, released=True),
    )
    me, *others = _subject(member=member, maintenance=True, clock=[NOW - 60.0]).status().instances
    assert (me.is_me, me.node, me.lease_age, me.same_configuration, me.maintenance) == (True, "n1", 1.5, True, True)
    assert [(each.node, each.same_configuration) for each in others] == [
        ("n2", True),
        ("n3", False),
        ("n4", None),
        ("n5", None),
    ]
    assert [each.status for each in others] == [LeaseStatus.ALIVE] * 3 + [LeaseStatus.RELEASED]
    assert [each.lease_age for each in others] == [2.0] * 4
    assert (others[0].version, others[0].address, others[1].maintenance) == ("0.9", "10.0.0.2:9984", True)


def test_a_silent_instance_stays_in_sight_behind_those_alive() -> None:
    """Who has fallen silent is what an operator looks for."""
    member = _member(Lease("n2", "two", 5))
    member.observe("n1", [Lease("n3", "three", 1, role=Role.STANDBY), Lease("n4", "four", 1)], NOW)
    member.observe("n1", [Lease("n3", "three", 2, role=Role.STANDBY), Lease("n4", "four", 1)], NOW + 30.0)
    _, *others = _subject(member=member, clock=[NOW - 20.0]).status().instances
    assert [(each.node, each.status, each.lease_age, each.is_active) for each in others] == [
        ("n3", LeaseStatus.ALIVE, 10.0, False),
        ("n4", LeaseStatus.UNPROVEN, None, True),
        ("n2", LeaseStatus.SILENT, 42.0, True),
    ]


def test_quarantine_is_counted_by_kind_over_all_listeners() -> None:
    """A kind that this version does not know cannot bring a text of its own."""
    status = _subject(
        _listener(LOWER, report(kinds={"timeout": 2, "held": 1})),
        _listener(UPPER, report(kinds={"held": 4, "<b>of another version</b>": 3})),
        _listener(UPPER),
    ).status()
    assert status.quarantine == {"held": 5, "other": 3, "timeout": 2}
    assert list(status.quarantine) == ["held", "other", "timeout"]


def test_deletions_are_added_up_and_a_pause_has_its_reason() -> None:
    """Without a journal nothing is paused, and there is no answer to that question."""
    listeners = (
        _listener(LOWER, report(deletions=DeletionStatus(waiting=2, held=1, oldest_due=WALL - 30.0))),
        _listener(UPPER, report(deletions=DeletionStatus(waiting=3, uncounted=4, oldest_due=WALL + 30.0))),
    )
    counters = Counters(databases_dropped=9)
    paused = Pause(paused=True, why=PauseReason.BREAKER, at=WALL - 5)
    shown = _subject(*listeners, counters=counters, pause=paused).status().deletions
    assert (shown.waiting, shown.held, shown.beyond_bound, shown.overdue, shown.dropped) == (5, 1, 4, 30.0, 9)
    assert (shown.paused, shown.paused_why, shown.paused_since) == (True, "breaker", WALL - 5)
    assert _subject().status().deletions.paused is None
    assert _subject(pause=Pause()).status().deletions.paused is False


def test_the_audit_counts_once_every_listener_has_ended_a_round() -> None:
    """Half of the listeners would show half of the findings."""
    last = AuditStatus(last=Summary(WALL - 90, WALL - 30, 10, {Finding.MISSING: 2}))
    other = AuditStatus(last=Summary(WALL - 80, WALL - 40, 5, {Finding.MISSING: 1, Finding.PUBLIC: 1}))
    running = AuditStatus(running=Summary(WALL - 9, None, 3, {Finding.HELD: 1}))
    shown = _subject(_listener(LOWER, report(audit=last)), _listener(UPPER, report(audit=other))).status().audit
    assert shown.last is not None
    assert (shown.last.begun, shown.last.ended, shown.last.users) == (WALL - 90, WALL - 30, 15)
    assert shown.last.findings == {"missing": 3, "public": 1}
    assert shown.running is None
    shown = _subject(_listener(LOWER, report(audit=last)), _listener(UPPER, report(audit=running))).status().audit
    assert shown.last is None
    assert shown.running is not None
    assert (shown.running.users, shown.running.ended) == (3, None)


def test_the_latency_is_sampled_by_the_rounds_of_the_loop() -> None:
    """A round costs nothing while no sample is due."""
    counters = Counters()
    clock = [NOW]
    subject = _subject(counters=counters, clock=clock)
    subject.sample(clock[0])
    counters.latency.observe(0.02)
    subject.sample(clock[0] + SAMPLE_SECONDS / 2)
    clock[0] += SAMPLE_SECONDS
    subject.sample(clock[0])
    clock[0] += 1.0
    latency = subject.status().latency
    assert [each.served for each in latency.course] == [1, 0]
    assert latency.recent.served == 1


def test_one_status_serves_all_who_ask_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred open pages cost no more than one."""
    clock = [NOW]
    subject = _subject(clock=clock)
    made: list[None] = []
    make = subject.status

    def counting(rows: int) -> Status:
        made.append(None)
        return make(rows)

    monkeypatch.setattr(subject, "status", counting)
    clients = [threading.Thread(target=subject.as_json) for _ in range(20)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert len(made) == 1
    clock[0] += 1.0
    assert decode_status(subject.as_json()).node == "n1"
    assert len(made) == 2


def test_a_huge_cluster_and_long_words_make_no_huge_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of servers are an enemy's, so neither rows nor names nor texts are without a limit."""
    monkeypatch.setattr(status_module, "MAX_BYTES", 500_000)
    nodes = tuple(f"{number:04}" + "x" * 10_000 for number in range(100))
    width = (1 << 32) // 4_096
    hosts = {Range(number * width, (number + 1) * width - 1): nodes for number in range(4_096)}
    view = View(nodes, nodes, ShardMap("_users", ".1", hosts))
    holding = report(on_hold="y" * 100_000)
    listeners = [_listener(each, holding) for each in list(hosts)[:2_000]]
    plans = PlanHistory()
    plans.note((VIEW, VIEW), (view, view), "z" * 100_000, "")
    encoded = _subject(*listeners, views=(view, view), plans=plans.changes).as_json()
    assert len(encoded) <= 500_000
    status = decode_status(encoded)
    assert status.omitted["ranges"] == 4_096 - len(status.ranges)
    assert status.omitted["listeners"] == 2_000 - len(status.listeners)
    assert status.omitted["owners"] == 100 - len(status.ranges[0].owners)
    assert status.nodes is not None
    assert {len(each) for each in status.nodes} == {MAX_TEXT}
    assert {len(each.on_hold or "") for each in status.listeners} == {MAX_TEXT}
    assert max(len(each) for plan in status.plans for each in (*plan.reasons, plan.says)) == MAX_TEXT


def test_a_status_that_only_escaping_makes_too_long_is_cut_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each character that could steer a terminal has three bytes before it is escaped, and six after that."""
    nodes = tuple(f"{number:04}" + "\u202e" * 200 for number in range(100))
    subject = _subject(views=(VIEW, View(nodes, nodes, MAP)))
    length = len(encode_status(subject.status()))
    monkeypatch.setattr(status_module, "MAX_BYTES", length)
    encoded = subject.as_json()
    assert len(encoded) <= length
    assert 0 < decode_status(encoded).omitted["nodes"] < 100


def test_names_that_are_no_text_can_be_encoded() -> None:
    """A lone surrogate of a server's answer would otherwise make every status fail."""
    name = "n\ud800\x00\u202e"
    view = View((name,), (name,), ShardMap("_users", ".1", {WHOLE_SPACE: (name,)}))
    plans = (PlanChange(1.0, ("why",), "says", "done"),)
    status = decode_status(_subject(views=(view, view), plans=plans).as_json())
    assert status.nodes == ("n\\ud800\x00\u202e",)
    assert status.plans == plans
