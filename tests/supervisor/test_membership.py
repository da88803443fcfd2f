"""Membership: an instance's role and its view of the others' leases. Each test gives the time."""

from collections.abc import Iterable

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.leases import PROTOCOL, Breaks, Lease, LeaseStatus, Role
from peruserd.supervisor.membership import LeaseObserver, LiveInstances, Member, Peer

TTL = 20.0
HERE, THERE = "n1", "n2"


def _member(incarnation: str = "me", replaces: str | None = None) -> Member:
    return Member(incarnation=incarnation, replaces=replaces, ttl_seconds=TTL, version="1.0")


def _lease(incarnation: str, counter: int = 1, node: str = HERE, **more: object) -> Lease:
    return msgspec.structs.replace(Lease(node, incarnation, counter), **more)


def _signed_often(member: Member, times: int) -> Member:
    for _ in range(times):
        member.next_lease(HERE)
    return member


def _watched(member: Member, *looks: tuple[float, Iterable[Lease]]) -> LiveInstances:
    """Return the live instances after the last of these readings, without `breaks`, which one test covers."""
    live = LiveInstances(())
    for now, leases in looks:
        live = member.observe(HERE, leases, now)
    return msgspec.structs.replace(live, breaks=())


def test_an_instance_claims_nothing_before_it_has_read_the_leases() -> None:
    """Its first lease says that it stands by, because another instance may be active beside its node."""
    assert _member().next_lease(HERE) == _lease("me", 1, role=Role.STANDBY, version="1.0", protocol=PROTOCOL)


def test_an_instance_has_looked_round_once_leases_were_read() -> None:
    """A missing or unreadable database does not count as a reading of the leases."""
    member = _member()
    assert not member.has_read_leases
    member.suspend_expiry(HERE, 0.0)
    assert not member.has_read_leases
    member.observe(HERE, [], 1.0)
    assert member.has_read_leases


def test_an_instance_that_finds_nobody_is_active() -> None:
    """An instance without others beside its node is active, even before its own lease was written."""
    member = _member()
    assert member.observe(HERE, [], 0.0) == LiveInstances((HERE,), None)
    assert member.next_lease(HERE).role is Role.ACTIVE


def test_each_lease_signed_has_counted_on() -> None:
    """The counter starts with 1 and grows with each signature; the other fields have their newest values."""
    member = _member(replaces="before")
    member.set_address("127.0.0.1:9984")
    member.observe(HERE, [], 0.0)
    member.next_lease(HERE)
    signed = member.next_lease(HERE, maintenance=True)
    assert signed == _lease(
        "me", 2, replaces="before", maintenance=True, version="1.0", address="127.0.0.1:9984", protocol=PROTOCOL
    )
    assert member.lease == signed
    last = member.next_lease(HERE, released=True)
    assert (last.counter, last.released, last.maintenance) == (3, True, False)


def test_the_company_is_all_who_live_and_oneself() -> None:
    """The nodes with a live instance, sorted, each once. This instance never takes itself for dead."""
    leases = [_lease("b", node="n3"), _lease("a", node=THERE), _lease("c", node=THERE)]
    member = _member()
    assert member.observe(HERE, leases, 0.0).instances == (HERE, THERE, "n3")
    assert member.observe(HERE, leases, TTL).instances == (HERE,)


def test_an_elder_that_is_active_keeps_its_place() -> None:
    """A second instance beside the same node stands by, for any age. Both instances agree."""
    active, younger = _signed_often(_member("active"), 5), _signed_often(_member("younger"), 3)
    _watched(active, (0.0, []))
    seen = active.next_lease(HERE)
    live = _watched(younger, (1.0, [seen]))
    assert live == LiveInstances((HERE,), seen)
    assert younger.lease.role is Role.STANDBY
    grown = _signed_often(younger, 100).next_lease(HERE)
    assert _watched(active, (2.0, [seen, grown]), (3.0, [seen, grown])).standby_for is None
    assert active.lease.role is Role.ACTIVE


def test_of_two_that_start_together_the_elder_becomes_active() -> None:
    """Both stand by at first. The instance with the higher counter becomes active, and the other stays standby."""
    elder, younger = _signed_often(_member("elder"), 4), _signed_often(_member("younger"), 3)
    live = _watched(younger, (0.0, [elder.lease]))
    assert live.standby_for == elder.lease
    assert _watched(elder, (0.0, [younger.lease])).standby_for is None
    assert (elder.lease.role, younger.lease.role) == (Role.ACTIVE, Role.STANDBY)


def test_two_that_are_both_active_come_to_one() -> None:
    """After a cut between them the instance with the lower counter stands by."""
    elder, younger = _signed_often(_member("elder"), 9), _signed_often(_member("younger"), 4)
    for member in (elder, younger):
        member.observe(HERE, [], 0.0)
    assert (
        _watched(younger, (1.0, [elder.next_lease(HERE)]), (2.0, [elder.next_lease(HERE)])).standby_for == elder.lease
    )
    assert younger.lease.role is Role.STANDBY
    assert _watched(elder, (1.0, [younger.next_lease(HERE)]), (2.0, [younger.next_lease(HERE)])).standby_for is None


def test_the_one_that_stands_by_takes_over_when_the_active_one_falls_silent() -> None:
    """An instance is dead once its counter has not grown for the time to live, for any number of readings."""
    member = _member()
    active = _lease("other", 7)
    assert _watched(member, (0.0, [active]), (19.9, [active])).standby_for == active
    assert _watched(member, (20.0, [active])) == LiveInstances((HERE,), None)
    assert member.lease.role is Role.ACTIVE


def test_the_one_that_stands_by_takes_over_at_once_when_the_active_one_releases() -> None:
    """After an update of the daemon others need not wait for the time to live."""
    member = _member()
    assert _watched(member, (0.0, [_lease("other", 7)])).standby_for is not None
    assert _watched(member, (1.0, [_lease("other", 8, released=True)])).standby_for is None


def test_an_instance_of_another_node_is_nobody_to_stand_by_for() -> None:
    """Each node has an active instance of its own."""
    assert _watched(_member(), (0.0, [_lease("other", 7, node=THERE)])) == LiveInstances((HERE, THERE), None)


def test_an_instance_whose_lease_appears_is_a_newcomer_until_it_is_seen_to_grow() -> None:
    """A standby does not count as the instance of its node."""
    member = _member()
    first = _lease("other", 1, node=THERE)
    asleep = _lease("third", 1, node="n3", role=Role.STANDBY)
    assert _watched(member, (0.0, []), (1.0, [first, asleep])) == LiveInstances((HERE,), newcomers=(THERE,))
    assert _watched(member, (2.0, [_lease("other", 2, node=THERE)])) == LiveInstances((HERE, THERE))


def test_the_predecessor_on_the_same_state_directory_is_ignored_at_once() -> None:
    """The lock proves that the predecessor has ended. After a crash and a restart its lease does not count."""
    live = _watched(_member(replaces="before"), (0.0, [_lease("before", 900)]))
    assert live == LiveInstances((HERE,), None)


def test_a_predecessor_that_bears_another_node_is_nobody_that_was_proven_dead() -> None:
    """A state directory that was copied from another node names an instance that still lives on that node."""
    live = _watched(_member(replaces="there"), (0.0, [_lease("there", 900, node=THERE)]))
    assert live.instances == (HERE, THERE)


def test_ones_own_lease_is_no_other_instance() -> None:
    """The own lease shows nothing, in any state."""
    member = _signed_often(_member(), 3)
    own = [_lease("me", 2), _lease("me", 9, role=Role.STANDBY, released=True)]
    assert _watched(member, (0.0, own), (1.0, own)) == LiveInstances((HERE,), None)
    assert member._table.observed == {}


def test_nobody_is_lost_while_nobody_can_write() -> None:
    """While leases cannot be written, the time to live does not pass."""
    member = _member()
    leases = [_lease("b", 5, node=THERE)]
    member.observe(HERE, leases, 0.0)
    for now in range(10, 200, 10):
        assert member.suspend_expiry(HERE, float(now)).instances == (HERE, THERE)
    assert member.observe(HERE, leases, 209.9).instances == (HERE, THERE)
    assert member.observe(HERE, leases, 210.0).instances == (HERE,)


def test_the_log_says_what_has_changed_and_nothing_else() -> None:
    """Each change of another instance's status is one log line, and so is each change of the own role."""
    member = _member()
    lease = _lease("other", 7)
    looks: list[tuple[float, list[Lease]]] = [
        (0.0, [lease]),
        (5.0, [lease]),
        (20.0, [lease]),
        (21.0, [lease]),
        (22.0, [_lease("other", 8, released=True)]),
        (23.0, [_lease("other", 8, released=True)]),
    ]
    with capture_logs() as logged:
        _watched(member, *looks)
    instances = [(line["incarnation"], line["standing"]) for line in logged if line["event"] == "instance"]
    assert instances == [
        ("other", LeaseStatus.ALIVE.value),
        ("other", LeaseStatus.SILENT.value),
        ("other", LeaseStatus.RELEASED.value),
    ]
    assert [line["role"] for line in logged if line["event"] == "role"] == ["active"]


def test_standing_by_is_logged_with_the_one_it_is_for() -> None:
    """If an active instance becomes a standby, the log names the other one."""
    member = _signed_often(_member(), 1)
    member.observe(HERE, [], 0.0)
    with capture_logs() as logged:
        _watched(member, (1.0, [_lease("elder", 8)]), (2.0, [_lease("elder", 9)]))
    (line,) = [line for line in logged if line["event"] == "role"]
    assert (line["role"], line["standby_for"], line["beside"]) == ("standby", "elder", HERE)


@pytest.mark.parametrize("seen_from", [HERE, THERE])
def test_a_lease_observer_sees_all_instances_and_is_none(seen_from: str) -> None:
    """A command has no lease. So its own node counts only if an instance runs there."""
    observer = LeaseObserver(TTL)
    lease = _lease("b", 5, node=THERE)
    with capture_logs() as logged:
        assert observer.observe(seen_from, [lease], 0.0) == LiveInstances((THERE,), None)
        assert observer.unproven(0.0) == (lease,)
        assert observer.peers(1.5) == [Peer(lease, LeaseStatus.ALIVE, 1.5)]
        observer.observe(seen_from, [_lease("b", 6, node=THERE)], 1.0)
        assert observer.unproven(1.0) == ()
        assert observer.observe(seen_from, [], 30.0) == LiveInstances(())
        assert [each.status for each in observer.peers(30.0)] == [LeaseStatus.SILENT]
    assert logged == []


def test_peers_are_in_order() -> None:
    """The list is sorted by node and incarnation, and has dead instances too."""
    observer = LeaseObserver(TTL)
    observer.observe(HERE, [_lease("c", node=THERE), _lease("b"), _lease("a", released=True)], 0.0)
    assert [(each.lease.incarnation, each.status) for each in observer.peers(0.0)] == [
        ("a", LeaseStatus.RELEASED),
        ("b", LeaseStatus.ALIVE),
        ("c", LeaseStatus.ALIVE),
    ]


def test_a_break_is_told_with_the_next_lease() -> None:
    """Others may miss a short absence of a node. The leases of live instances tell them how often it happened."""
    broken, observer = _member("broken"), _member()
    broken.next_lease(THERE)
    broken.note_break()
    signed = broken.next_lease(THERE)
    assert signed.breaks == 1
    assert observer.observe(HERE, [signed], 0.0).breaks == (Breaks(THERE, "broken", 1),)
    assert observer.observe(HERE, [signed], TTL).breaks == ()


def _drainable(counter: int = 5, **more: object) -> Lease:
    """The lease of another instance that knows what `drained` means."""
    return _lease("b", counter, node=THERE, protocol=PROTOCOL, **more)


def test_an_instance_that_drains_counts_as_drained_before_others_hear_of_it() -> None:
    """It ends its own work first. The others see it by the lease that is written after that."""
    member = _member()
    member.observe(HERE, [_drainable()], 0.0)
    member.drain(on=True)
    assert member.draining
    live = member.observe(HERE, [_drainable(6)], 1.0)
    assert (live.instances, live.drain.owners(live.instances)) == ((HERE, THERE), (THERE,))
    told = member.next_lease(HERE)
    assert (told.draining, told.drained) == (True, False)
    assert member.next_lease(HERE, drained=True).drained


def test_a_drain_that_is_undone_ends_with_a_lease_that_says_so() -> None:
    """Until that lease is written, the others may act on its documents."""
    member = _member()
    member.observe(HERE, [_drainable()], 0.0)
    member.drain(on=True)
    member.note_written(member.next_lease(HERE, drained=True))
    member.drain(on=False)
    assert member.observe(HERE, [_drainable(6)], 1.0).drain.drained == {HERE}
    lost = member.next_lease(HERE)
    assert member.observe(HERE, [_drainable(7)], 2.0).drain.drained == {HERE}
    member.note_written(lost)
    assert member.observe(HERE, [_drainable(8)], 3.0).drain.drained == set()


def test_nobody_drains_beside_an_instance_that_does_not_know_the_order() -> None:
    """An old one comes, and the drained instance takes its documents back, because the old one leaves them to it."""
    member = _member()
    member.drain(on=True)
    member.observe(HERE, [_drainable()], 0.0)
    old = _lease("old", 3, node="n3")
    assert member.observe(HERE, [_drainable(6), old], 1.0).drain.drained == {HERE}
    grown = _lease("old", 4, node="n3")
    assert member.observe(HERE, [_drainable(7), grown], 2.0).drain.drained == set()


def test_an_observer_sees_who_is_drained() -> None:
    """So do the commands."""
    observer = LeaseObserver(TTL)
    live = observer.observe(HERE, [_drainable(draining=True, drained=True)], 0.0)
    assert live.instances == (THERE,)
    assert live.drain.drained == {THERE}


def test_two_that_are_told_to_drain_both_serve() -> None:
    """Neither can take over from the other, and neither waits for it."""
    member = _member()
    member.observe(HERE, [_drainable()], 0.0)
    member.drain(on=True)
    live = member.observe(HERE, [_drainable(6, draining=True)], 1.0)
    assert live.drain.owners(live.instances) == (HERE, THERE)
