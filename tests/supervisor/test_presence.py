"""An instance among others: its role, and what it takes from their leases. No clock but the one that is given."""

from collections.abc import Iterable

import msgspec
import pytest
from structlog.testing import capture_logs

from peruserd.core.leases import Breaks, Lease, Role, Standing
from peruserd.supervisor.presence import Company, Neighbour, Onlooker, Presence

TTL = 20.0
HERE, THERE = "n1", "n2"


def _presence(incarnation: str = "me", replaces: str | None = None) -> Presence:
    return Presence(incarnation=incarnation, replaces=replaces, ttl_seconds=TTL, version="1.0")


def _lease(incarnation: str, counter: int = 1, node: str = HERE, **more: object) -> Lease:
    return Lease(node, incarnation, counter, **more)  # type: ignore[arg-type]


def _beaten(presence: Presence, times: int) -> Presence:
    for _ in range(times):
        presence.sign(HERE)
    return presence


def _watched(presence: Presence, *looks: tuple[float, Iterable[Lease]]) -> Company:
    """The company that the last of these looks shows, from `HERE`; its breaks are left to one test."""
    company = Company(())
    for now, leases in looks:
        company = presence.observe(HERE, leases, now)
    return msgspec.structs.replace(company, breaks=())


def test_an_instance_claims_nothing_before_it_has_looked_round() -> None:
    """Its first lease says that it stands by: another one may be active beside its node."""
    assert _presence().sign(HERE) == _lease("me", 1, role=Role.STANDBY, version="1.0")


def test_an_instance_has_looked_round_once_leases_were_read() -> None:
    """A database that is not there, or that cannot be read, was no look at anybody."""
    presence = _presence()
    assert not presence.has_looked
    presence.excuse(HERE, 0.0)
    assert not presence.has_looked
    presence.observe(HERE, [], 1.0)
    assert presence.has_looked


def test_an_instance_that_finds_nobody_is_active() -> None:
    """Alone beside its node it acts for it, though its own lease was never written."""
    presence = _presence()
    assert presence.observe(HERE, [], 0.0) == Company((HERE,), None)
    assert presence.sign(HERE).role is Role.ACTIVE


def test_each_lease_signed_has_counted_on() -> None:
    """The counter grows with each signing and counts from 1; the rest is what was given last."""
    presence = _presence(replaces="before")
    presence.set_address("127.0.0.1:9984")
    presence.observe(HERE, [], 0.0)
    presence.sign(HERE)
    signed = presence.sign(HERE, maintenance=True)
    assert signed == _lease("me", 2, replaces="before", maintenance=True, version="1.0", address="127.0.0.1:9984")
    assert presence.lease == signed
    last = presence.sign(HERE, released=True)
    assert (last.counter, last.released, last.maintenance) == (3, True, False)


def test_the_company_is_all_who_live_and_oneself() -> None:
    """Nodes with a living instance, sorted, each once; this instance never takes itself for dead."""
    leases = [_lease("b", node="n3"), _lease("a", node=THERE), _lease("c", node=THERE)]
    presence = _presence()
    assert presence.observe(HERE, leases, 0.0).instances == (HERE, THERE, "n3")
    assert presence.observe(HERE, leases, TTL).instances == (HERE,)


def test_an_elder_that_is_active_keeps_its_place() -> None:
    """A second instance beside the same node stands by, however long it has lived; both say the same."""
    active, younger = _beaten(_presence("active"), 5), _beaten(_presence("younger"), 3)
    _watched(active, (0.0, []))
    seen = active.sign(HERE)
    company = _watched(younger, (1.0, [seen]))
    assert company == Company((HERE,), seen)
    assert younger.lease.role is Role.STANDBY
    grown = _beaten(younger, 100).sign(HERE)
    assert _watched(active, (2.0, [seen, grown]), (3.0, [seen, grown])).standby_for is None
    assert active.lease.role is Role.ACTIVE


def test_of_two_that_start_together_the_elder_becomes_active() -> None:
    """Both stand by at first; the one that has counted further takes the place, the other goes on standing by."""
    elder, younger = _beaten(_presence("elder"), 4), _beaten(_presence("younger"), 3)
    company = _watched(younger, (0.0, [elder.lease]))
    assert company.standby_for == elder.lease
    assert _watched(elder, (0.0, [younger.lease])).standby_for is None
    assert (elder.lease.role, younger.lease.role) == (Role.ACTIVE, Role.STANDBY)


def test_two_that_are_both_active_come_to_one() -> None:
    """After a cut between them, the one that has counted less gives way."""
    elder, younger = _beaten(_presence("elder"), 9), _beaten(_presence("younger"), 4)
    for presence in (elder, younger):
        presence.observe(HERE, [], 0.0)
    assert _watched(younger, (1.0, [elder.sign(HERE)]), (2.0, [elder.sign(HERE)])).standby_for == elder.lease
    assert younger.lease.role is Role.STANDBY
    assert _watched(elder, (1.0, [younger.sign(HERE)]), (2.0, [younger.sign(HERE)])).standby_for is None


def test_the_one_that_stands_by_takes_over_when_the_active_one_falls_silent() -> None:
    """After the time to live without growth, however often the lease is read."""
    presence = _presence()
    active = _lease("other", 7)
    assert _watched(presence, (0.0, [active]), (19.9, [active])).standby_for == active
    assert _watched(presence, (20.0, [active])) == Company((HERE,), None)
    assert presence.lease.role is Role.ACTIVE


def test_the_one_that_stands_by_takes_over_at_once_when_the_active_one_releases() -> None:
    """An update of the daemon need not cost the time to live."""
    presence = _presence()
    assert _watched(presence, (0.0, [_lease("other", 7)])).standby_for is not None
    assert _watched(presence, (1.0, [_lease("other", 8, released=True)])).standby_for is None


def test_an_instance_of_another_node_is_nobody_to_stand_by_for() -> None:
    """Each node has an active instance of its own."""
    assert _watched(_presence(), (0.0, [_lease("other", 7, node=THERE)])) == Company((HERE, THERE), None)


def test_an_instance_whose_lease_appears_is_a_newcomer_until_it_is_seen_to_grow() -> None:
    """An instance that stands by is none: it does not act for its node."""
    presence = _presence()
    first = _lease("other", 1, node=THERE)
    asleep = _lease("third", 1, node="n3", role=Role.STANDBY)
    assert _watched(presence, (0.0, []), (1.0, [first, asleep])) == Company((HERE,), newcomers=(THERE,))
    assert _watched(presence, (2.0, [_lease("other", 2, node=THERE)])) == Company((HERE, THERE))


def test_the_predecessor_on_the_same_state_directory_is_ignored_at_once() -> None:
    """The lock proves it dead; after a crash and a restart nobody waits for its lease to run out."""
    company = _watched(_presence(replaces="before"), (0.0, [_lease("before", 900)]))
    assert company == Company((HERE,), None)


def test_a_predecessor_that_bears_another_node_is_nobody_that_was_proven_dead() -> None:
    """A state directory copied to another node names an instance that lives on there."""
    company = _watched(_presence(replaces="there"), (0.0, [_lease("there", 900, node=THERE)]))
    assert company.instances == (HERE, THERE)


def test_ones_own_lease_is_no_other_instance() -> None:
    """Read back, in whatever state, it shows nothing."""
    presence = _beaten(_presence(), 3)
    own = [_lease("me", 2), _lease("me", 9, role=Role.STANDBY, released=True)]
    assert _watched(presence, (0.0, own), (1.0, own)) == Company((HERE,), None)
    assert presence.neighbours(1.0) == []


def test_nobody_is_lost_while_nobody_can_write() -> None:
    """While the authentication database does not exist, time to live does not pass."""
    presence = _presence()
    leases = [_lease("b", 5, node=THERE)]
    presence.observe(HERE, leases, 0.0)
    for now in range(10, 200, 10):
        assert presence.excuse(HERE, float(now)).instances == (HERE, THERE)
    assert presence.observe(HERE, leases, 209.9).instances == (HERE, THERE)
    assert presence.observe(HERE, leases, 210.0).instances == (HERE,)


def test_the_log_says_what_has_changed_and_nothing_else() -> None:
    """One line for each change of what is believed of an instance, and for each change of the own role."""
    presence = _presence()
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
        _watched(presence, *looks)
    instances = [(line["incarnation"], line["standing"]) for line in logged if line["event"] == "instance"]
    assert instances == [
        ("other", Standing.ALIVE.value),
        ("other", Standing.SILENT.value),
        ("other", Standing.RELEASED.value),
    ]
    assert [line["role"] for line in logged if line["event"] == "role"] == ["active"]


def test_standing_by_is_logged_with_the_one_it_is_for() -> None:
    """An active instance that gives way says to whom."""
    presence = _beaten(_presence(), 1)
    presence.observe(HERE, [], 0.0)
    with capture_logs() as logged:
        _watched(presence, (1.0, [_lease("elder", 8)]), (2.0, [_lease("elder", 9)]))
    (line,) = [line for line in logged if line["event"] == "role"]
    assert (line["role"], line["standby_for"], line["beside"]) == ("standby", "elder", HERE)


@pytest.mark.parametrize("seen_from", [HERE, THERE])
def test_an_onlooker_sees_everybody_and_is_nobody(seen_from: str) -> None:
    """A command that asks has no lease: the instances are those seen, its own node's only if it has one."""
    onlooker = Onlooker(TTL)
    lease = _lease("b", 5, node=THERE)
    with capture_logs() as logged:
        assert onlooker.observe(seen_from, [lease], 0.0) == Company((THERE,), None)
        assert onlooker.unproven(0.0) == (lease,)
        assert onlooker.neighbours(0.0) == [Neighbour(lease, Standing.ALIVE)]
        onlooker.observe(seen_from, [_lease("b", 6, node=THERE)], 1.0)
        assert onlooker.unproven(1.0) == ()
        assert onlooker.observe(seen_from, [], 30.0) == Company(())
        assert [each.standing for each in onlooker.neighbours(30.0)] == [Standing.SILENT]
    assert logged == []


def test_neighbours_are_in_order() -> None:
    """By node, then incarnation, dead ones among them."""
    onlooker = Onlooker(TTL)
    onlooker.observe(HERE, [_lease("c", node=THERE), _lease("b"), _lease("a", released=True)], 0.0)
    assert [(each.lease.incarnation, each.standing) for each in onlooker.neighbours(0.0)] == [
        ("a", Standing.RELEASED),
        ("b", Standing.ALIVE),
        ("c", Standing.ALIVE),
    ]


def test_a_break_is_told_with_the_next_lease() -> None:
    """Others see no absence of a node between two of their looks; they are told for each instance that lives."""
    broken, onlooker = _presence("broken"), _presence()
    broken.sign(THERE)
    broken.note_break()
    signed = broken.sign(THERE)
    assert signed.breaks == 1
    assert onlooker.observe(HERE, [signed], 0.0).breaks == (Breaks(THERE, "broken", 1),)
    assert onlooker.observe(HERE, [signed], TTL).breaks == ()
