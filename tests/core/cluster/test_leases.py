from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.leases import PROTOCOL, Drain, Lease, LeaseStatus, LeaseTable, Role, drain_of, holder

TTL = 20.0


def _lease(incarnation: str = "a", counter: int = 1, node: str = "n1", **more: object) -> Lease:
    return msgspec.structs.replace(Lease(node, incarnation, counter), **more)


def _table(*looks: tuple[float, Iterable[Lease]]) -> LeaseTable:
    """The table of an observer that has looked at these moments. The first look is at 0, and finds nothing."""
    board = LeaseTable(TTL).observe([], 0.0)
    for now, leases in looks:
        board = board.observe(leases, now)
    return board


def _alive(board: LeaseTable, now: float) -> list[str]:
    return [lease.incarnation for lease in board.living(now)]


def test_a_counter_that_grows_is_a_sign_of_life() -> None:
    """An instance is alive from the moment its counter was seen to grow, by the observer's clock."""
    board = _table((1.0, [_lease(counter=7)]), (2.0, [_lease(counter=8)]))
    assert board.status("a", 2.0) is LeaseStatus.ALIVE
    assert board.living(2.0) == (_lease(counter=8),)
    assert board.unproven(2.0) == ()


def test_what_the_first_look_finds_is_believed_for_one_time_to_live() -> None:
    """An observer that has just begun to look cannot have seen anything grow, and must not take the others for dead."""
    board = LeaseTable(TTL).observe([_lease(counter=7)], 100.0)
    assert board.living(100.0) == board.unproven(100.0) == (_lease(counter=7),)
    assert board.status("a", 119.9) is LeaseStatus.ALIVE
    assert board.status("a", 120.0) is LeaseStatus.SILENT
    proven = board.observe([_lease(counter=8)], 105.0)
    assert (_alive(proven, 105.0), proven.unproven(105.0)) == (["a"], ())


def test_an_empty_first_look_is_a_first_look() -> None:
    """After an empty first look, no lease is believed without growth."""
    board = LeaseTable(TTL).observe([], 0.0).observe([_lease()], 0.0)
    assert _alive(board, 0.0) == []


def test_one_that_comes_later_must_grow() -> None:
    """A lease that appears after the first look can be an old copy. It is believed once it has grown."""
    board = _table((1.0, [_lease(counter=7)]), (2.0, [_lease(counter=7)]))
    assert board.status("a", 2.0) is LeaseStatus.UNPROVEN
    assert _alive(board, 2.0) == []
    assert _alive(board.observe([_lease(counter=8)], 3.0), 3.0) == ["a"]


def test_who_has_a_lease_and_did_not_grow_yet_is_a_newcomer() -> None:
    """An instance is a newcomer from its first lease until it is believed, is released or has a successor."""
    met = _table((1.0, [_lease(counter=7)]))
    assert met.newcomers() == (_lease(counter=7),)
    assert met.observe([_lease(counter=8)], 2.0).newcomers() == ()
    assert met.observe([_lease(counter=8)], 2.0).observe([], 2.0 + TTL).newcomers() == (), (
        "who has fallen silent was there"
    )
    assert met.observe([_lease(counter=8, released=True)], 2.0).newcomers() == ()
    assert met.observe([_lease("b", replaces="a")], 2.0).newcomers() == (_lease("b", replaces="a"),)
    assert LeaseTable(TTL).observe([_lease()], 0.0).newcomers() == (), "what the first look finds is believed"


def test_a_lease_that_only_is_there_shows_nothing() -> None:
    """The same counter read again and again lets the time to live run out."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(3, 40):
        board = board.observe([_lease(counter=2)], float(now))
    assert board.status("a", 21.9) is LeaseStatus.ALIVE
    assert board.status("a", 22.0) is LeaseStatus.SILENT


def test_a_lease_that_is_missing_shows_nothing() -> None:
    """A copy that was away has no lease although there is one; its instance stays alive for the time to live."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]), (3.0, []), (10.0, []))
    assert board.status("a", 21.9) is LeaseStatus.ALIVE
    assert board.status("a", 22.0) is LeaseStatus.SILENT


def test_stale_copies_that_are_read_in_turn_are_no_sign_of_life() -> None:
    """Two copies of a dead instance's lease show 5 and 9 by turns for ever: 9 after 5 is growth only the first time."""
    board = _table((1.0, [_lease(counter=5)]), (2.0, [_lease(counter=9)]))
    for now in range(3, 60):
        board = board.observe([_lease(counter=9 if now % 2 else 5)], float(now))
    assert board.status("a", 21.9) is LeaseStatus.ALIVE
    assert board.status("a", 22.0) is LeaseStatus.SILENT


def test_both_leases_of_one_instance_in_one_look_are_no_growth() -> None:
    """An instance that has changed its role left a lease under each; to read one after the other shows nothing."""
    left = [_lease(counter=5), _lease(counter=9, role=Role.STANDBY)]
    for leases in (left, left[::-1]):
        newcomer = _table((1.0, leases))
        assert newcomer.status("a", 1.0) is LeaseStatus.UNPROVEN
        first = LeaseTable(TTL).observe(leases, 1.0)
        assert first.unproven(1.0) == (left[1],)
        assert first.observe(leases, 5.0).unproven(5.0) == (left[1],)


def test_the_newest_of_what_was_seen_is_what_is_told() -> None:
    """A stale copy read back changes neither the role nor the address that are known."""
    newest = _lease(counter=9, role=Role.STANDBY, address="here:1")
    board = _table((1.0, [_lease(counter=5)]), (2.0, [newest]), (3.0, [_lease(counter=5, address="there:1")]))
    assert board.living(3.0) == (newest,)


def test_silence_ends_with_the_next_growth() -> None:
    """An instance that was taken for dead is alive again when its counter grows again."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    assert _alive(board, 50.0) == []
    assert _alive(board.observe([_lease(counter=3)], 50.0), 50.0) == ["a"]


def test_one_that_was_released_is_dead_at_once() -> None:
    """The last lease of an instance that stopped in order saves the others the time to live."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]), (3.0, [_lease(counter=3, released=True)]))
    assert board.status("a", 3.0) is LeaseStatus.RELEASED
    assert _alive(board, 3.0) == []
    stale = board.observe([_lease(counter=2)], 4.0)
    assert stale.status("a", 4.0) is LeaseStatus.RELEASED


def test_one_found_released_was_never_alive() -> None:
    """Not even the first look believes a lease with its own release."""
    assert _alive(LeaseTable(TTL).observe([_lease(counter=3, released=True)], 0.0), 0.0) == []


def test_a_later_start_buries_the_one_before() -> None:
    """The lock on their state directory proves the predecessor dead, however fresh its lease is."""
    board = LeaseTable(TTL).observe([_lease("old", 90), _lease("new", 1, replaces="old")], 0.0)
    assert board.status("old", 0.0) is LeaseStatus.REPLACED
    assert _alive(board, 0.0) == ["new"]
    assert _alive(board.observe([_lease("old", 91)], 1.0), 1.0) == ["new"]


def test_a_copied_state_directory_buries_nobody_elsewhere() -> None:
    """A copied directory contains the incarnation of the first node's instance. That instance lives on."""
    leases = [_lease("old", 90, node="n1"), _lease("new", 1, node="n2", replaces="old")]
    assert _alive(LeaseTable(TTL).observe(leases, 0.0), 0.0) == ["old", "new"]


def test_the_successor_of_one_that_was_alive_is_believed_at_once() -> None:
    """After a crash and a restart its node has an instance all along: no old copy can tell of a start after that."""
    board = _table((1.0, [_lease("old", 1)]), (2.0, [_lease("old", 2)]))
    board = board.observe([_lease("new", 1, replaces="old")], 10.0)
    assert [board.status(each, 10.0) for each in ("old", "new")] == [LeaseStatus.REPLACED, LeaseStatus.ALIVE]
    assert board.living(10.0) == board.unproven(10.0) == (_lease("new", 1, replaces="old"),)
    assert board.status("new", 29.9) is LeaseStatus.ALIVE
    assert board.status("new", 30.0) is LeaseStatus.SILENT


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([_lease("old", 1)], 10.0),
        ([_lease("old", 2)], 22.0),
        ([_lease("old", 2, node="n2")], 10.0),
        ([_lease("older", 2)], 10.0),
    ],
    ids=["never-proven", "silent", "beside-another-node", "not-its-predecessor"],
)
def test_the_successor_of_one_that_was_not_alive_must_grow(before: list[Lease], now: float) -> None:
    """Both leases can be old copies. But there was a later start, so the earlier incarnation is dead."""
    first = [msgspec.structs.replace(before[0], counter=1)]
    board = _table((1.0, first), (2.0, before)).observe([_lease("new", 1, replaces="old")], now)
    assert board.status("new", now) is LeaseStatus.UNPROVEN
    assert "new" not in _alive(board, now)
    assert board.observe([_lease("new", 2, replaces="old")], now).status("new", now) is LeaseStatus.ALIVE


def test_a_successor_that_is_not_believed_itself_buries_its_predecessor() -> None:
    """A lease proves a later start, whether or not its instance is alive."""
    board = LeaseTable(TTL).observe([_lease("old", 90)], 0.0).observe([_lease("new", 1, replaces="old")], 30.0)
    revived = board.observe([_lease("old", 91)], 31.0)
    assert [revived.status(each, 31.0) for each in ("old", "new")] == [LeaseStatus.REPLACED, LeaseStatus.UNPROVEN]
    assert _alive(revived, 31.0) == []


def test_nobody_is_silent_while_nobody_can_write() -> None:
    """While the authentication database is missing the time to live stands still."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(3, 100, 10):
        board = board.suspend_expiry(float(now))
    assert board.status("a", 93.0 + 19.9) is LeaseStatus.ALIVE
    assert board.status("a", 93.0 + 20.0) is LeaseStatus.SILENT


def test_excuses_now_and_then_do_not_keep_the_dead_alive() -> None:
    """Only the time without a look does not count. A failed look between others adds the time that it missed."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(4, 24, 2):
        board = board.suspend_expiry(float(now)) if now % 6 == 0 else board.observe([_lease(counter=2)], float(now))
    assert board.status("a", 2.0 + TTL + 6.0 - 0.1) is LeaseStatus.ALIVE, "three looks of two seconds failed"
    assert board.status("a", 2.0 + TTL + 6.0) is LeaseStatus.SILENT


def test_silence_before_an_excuse_counts() -> None:
    """An instance that was silent for most of the time to live has only the rest of it afterwards."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)])).observe([_lease(counter=2)], 20.0)
    board = board.suspend_expiry(500.0).observe([_lease(counter=2)], 501.0)
    assert board.status("a", 501.9) is LeaseStatus.ALIVE
    assert board.status("a", 502.0) is LeaseStatus.SILENT


def test_an_excuse_raises_nobody_from_the_dead() -> None:
    """An instance that was silent before, was never proven, or has stopped stays so."""
    board = _table((1.0, [_lease("a", 1), _lease("b", 1), _lease("c", 1)]), (2.0, [_lease("a", 2)]))
    board = board.observe([_lease("c", 2, released=True)], 30.0).suspend_expiry(50.0)
    assert [board.status(each, 50.0) for each in "abc"] == [
        LeaseStatus.SILENT,
        LeaseStatus.UNPROVEN,
        LeaseStatus.RELEASED,
    ]
    assert _alive(board, 50.0) == []


def test_the_dead_are_forgotten_when_no_copy_shows_them_any_more() -> None:
    """Each start has an incarnation of its own. A table that never forgot one would grow without end."""
    board = _table((1.0, [_lease("dead", 1)]), (2.0, [_lease("dead", 2)]))
    assert "dead" in board.observe([], 2.0 + 29 * TTL).observed
    assert "dead" not in board.observe([], 2.0 + 30 * TTL).observed
    kept = board
    for now in range(10, 2000, 10):
        kept = kept.observe([_lease("dead", 2)], float(now))
    assert kept.status("dead", 2000.0) is LeaseStatus.SILENT


def test_one_that_was_forgotten_is_a_newcomer() -> None:
    """If its old lease is seen again, it proves as little as any newcomer's."""
    board = _table((1.0, [_lease(counter=2)])).observe([], 10_000.0).observe([_lease(counter=2)], 10_001.0)
    assert board.status("a", 10_001.0) is LeaseStatus.UNPROVEN


def test_the_living_are_in_order() -> None:
    """Leases are sorted by node and incarnation, whatever the order in which they were read."""
    leases = [_lease("c", node="n2"), _lease("b", node="n10"), _lease("a", node="n2")]
    assert _alive(LeaseTable(TTL).observe(leases, 0.0), 0.0) == ["b", "a", "c"]


def test_an_incarnation_that_was_never_seen_has_no_status() -> None:
    """Nothing is made up of an incarnation that nobody has met."""
    with pytest.raises(KeyError):
        LeaseTable(TTL).status("a", 0.0)


READINGS = st.lists(
    st.tuples(
        st.floats(0.0, 15.0),
        st.lists(
            st.builds(
                Lease,
                node=st.sampled_from(["n1", "n2"]),
                incarnation=st.sampled_from("abc"),
                counter=st.integers(1, 6),
                role=st.sampled_from(Role),
                replaces=st.none() | st.sampled_from("abc"),
                released=st.booleans(),
            ),
            max_size=4,
        ),
    ),
    max_size=12,
)


@given(readings=READINGS, later=st.floats(0.0, 60.0))
def test_only_growth_the_first_look_or_succession_makes_alive(
    readings: list[tuple[float, list[Lease]]], later: float
) -> None:
    """No instance is alive longer than the time to live after its last growth, in any order of reading the copies.

    The test keeps its own books by the plain rule. A sign of life is one of these:

    - a counter above all earlier ones of its incarnation;
    - the first look;
    - a start that replaces an incarnation that was alive.
    """
    board = LeaseTable(TTL)
    newest: dict[str, Lease] = {}
    grown: dict[str, float] = {}
    now = 0.0
    for number, (pause, leases) in enumerate(readings):
        now += pause
        board = board.observe(leases, now)
        known, alive = dict(newest), {name for name, moment in grown.items() if now - moment < TTL}
        for name in {lease.incarnation for lease in leases}:
            lease = max((each for each in leases if each.incarnation == name), key=lambda each: each.counter)
            before = known.get(lease.replaces or "")
            succeeds = before is not None and before.node == lease.node and before.incarnation in alive
            if lease.counter > known[name].counter if name in known else number == 0 or succeeds:
                grown[name] = now
            if name not in known or lease.counter > known[name].counter:
                newest[name] = lease
    now += later
    for lease in board.living(now):
        assert now - grown[lease.incarnation] < TTL
        assert lease == newest[lease.incarnation]
        assert not lease.released
        assert board.status(lease.incarnation, now) is LeaseStatus.ALIVE
    for name, moment in grown.items():
        if now - moment < TTL:
            assert board.status(name, now) in (LeaseStatus.ALIVE, LeaseStatus.RELEASED, LeaseStatus.REPLACED)
    assert set(board.unproven(now)) <= set(board.living(now))


def test_nobody_acts_for_a_node_without_an_instance() -> None:
    """Leases of other nodes do not count."""
    assert holder("n1", []) is None
    assert holder("n1", [_lease(node="n2")]) is None


def test_one_that_is_active_keeps_its_place() -> None:
    """An older standby instance never takes documents from the active one."""
    active, standby = _lease("a", 3), _lease("b", 900, role=Role.STANDBY)
    for leases in ([active, standby], [standby, active]):
        assert holder("n1", leases) is active


@pytest.mark.parametrize("role", Role)
def test_among_equals_the_elder_acts(role: Role) -> None:
    """Of two standby or two active instances, the one with the higher counter acts."""
    elder, younger = _lease("a", 9, role=role), _lease("b", 8, role=role)
    for leases in ([elder, younger], [younger, elder]):
        assert holder("n1", leases) is elder


LEASES = st.lists(
    st.builds(
        _lease, st.sampled_from("abcd"), st.integers(1, 3), st.sampled_from(["n1", "n2"]), role=st.sampled_from(Role)
    ),
    unique_by=lambda lease: lease.incarnation,
).flatmap(lambda leases: st.tuples(st.just(leases), st.permutations(leases)))


@given(orders=LEASES)
def test_all_choose_the_same(orders: tuple[list[Lease], list[Lease]]) -> None:
    """Observers that know the same leases choose the same holder, whatever order they read them in."""
    one, other = orders
    chosen = holder("n1", one)
    assert chosen == holder("n1", other)
    assert (chosen is None) == all(lease.node != "n1" for lease in one)


def test_a_lease_is_read_as_it_was_written() -> None:
    """Another version's additional fields are passed over, and what is missing has its default."""
    lease = _lease("a", 3, role=Role.STANDBY, replaces="b", released=True, maintenance=True, version="1", address="x:1")
    assert msgspec.json.decode(msgspec.json.encode(lease), type=Lease) == lease
    old = b'{"_id":"_local/x","node":"n1","incarnation":"a","counter":3,"mood":"good"}'
    assert msgspec.json.decode(old, type=Lease) == _lease("a", 3)


def test_another_time_to_live_wakes_no_dead_instance() -> None:
    """An instance that is silent already would otherwise get its documents back, and nobody would serve them."""
    board = _table((1.0, [_lease("a"), _lease("b")]), (2.0, [_lease("a", 2)]), (15.0, [_lease("b", 2)]))
    assert _alive(board, 25.0) == ["b"]
    longer = board.with_ttl(60.0, 25.0)
    assert _alive(longer, 25.0) == ["b"]
    assert longer.status("a", 25.0) is LeaseStatus.SILENT
    assert longer.newcomers() == ()
    assert _alive(longer, 74.9) == ["b"]
    assert _alive(longer.observe([_lease("a", 3)], 30.0), 30.0) == ["a", "b"]
    assert _alive(board.with_ttl(5.0, 25.0), 25.0) == []


def _able(node: str, **more: object) -> Lease:
    """An active lease of an instance that knows what `drained` means."""
    return msgspec.structs.replace(Lease(node, node, 1, protocol=PROTOCOL), **more)


def _gone(node: str) -> Lease:
    return _able(node, draining=True, drained=True)


def test_an_instance_that_has_given_up_its_documents_is_known_by_its_lease() -> None:
    """One that was told to is still acting. A standby does not count, because it acts on nothing either."""
    leases = [_gone("n1"), _able("n2"), _able("n3", draining=True), _able("n1", role=Role.STANDBY)]
    assert drain_of(leases) == Drain(frozenset({"n1", "n3"}), frozenset({"n1"}))


def test_nobody_is_drained_while_an_instance_does_not_know_what_that_means() -> None:
    """It would leave the documents to the drained one for ever. An old standby leaves nothing to anybody."""
    old = _lease("old", node="n3")
    assert drain_of([_gone("n1"), _able("n2"), old]) == Drain()
    standby = msgspec.structs.replace(old, role=Role.STANDBY)
    assert drain_of([_gone("n1"), _able("n2"), standby]).drained == {"n1"}


def test_a_node_with_another_active_instance_is_not_drained() -> None:
    """For a moment two instances of a node can both be active. One of them acts."""
    assert drain_of([_gone("n1"), _able("n1", counter=7), _able("n2")]) == Drain()


def test_drained_instances_own_nothing_while_another_one_was_not_told_to_drain() -> None:
    """If all were told to, somebody must serve the users all the same. One that is away serves nobody here."""
    drain = drain_of([_gone("n1"), _able("n2", draining=True), _able("n3")])
    assert drain.owners(("n1", "n2", "n3")) == ("n2", "n3")
    assert drain.owners(("n1", "n2")) == ("n1", "n2")
    assert drain.owners(()) == ()
