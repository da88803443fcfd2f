from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.leases import Lease, LeaseStatus, LeaseTable, Role, holder

TTL = 20.0


def _lease(incarnation: str = "a", counter: int = 1, node: str = "n1", **more: object) -> Lease:
    return msgspec.structs.replace(Lease(node, incarnation, counter), **more)


def _table(*looks: tuple[float, Iterable[Lease]]) -> LeaseTable:
    """The knowledge of an observer that has looked at these moments; the first look is at 0, with nothing there."""
    board = LeaseTable(TTL).see([], 0.0)
    for now, leases in looks:
        board = board.see(leases, now)
    return board


def _alive(board: LeaseTable, now: float) -> list[str]:
    return [lease.incarnation for lease in board.living(now)]


def test_a_counter_that_grows_is_a_sign_of_life() -> None:
    """An instance is alive from the moment its counter was seen to grow, by the observer's clock."""
    board = _table((1.0, [_lease(counter=7)]), (2.0, [_lease(counter=8)]))
    assert board.standing("a", 2.0) is LeaseStatus.ALIVE
    assert board.living(2.0) == (_lease(counter=8),)
    assert board.unproven(2.0) == ()


def test_what_the_first_look_finds_is_believed_for_one_time_to_live() -> None:
    """An observer that has just begun to look cannot have seen anything grow, and must not take the others for dead."""
    board = LeaseTable(TTL).see([_lease(counter=7)], 100.0)
    assert board.living(100.0) == board.unproven(100.0) == (_lease(counter=7),)
    assert board.standing("a", 119.9) is LeaseStatus.ALIVE
    assert board.standing("a", 120.0) is LeaseStatus.SILENT
    proven = board.see([_lease(counter=8)], 105.0)
    assert (_alive(proven, 105.0), proven.unproven(105.0)) == (["a"], ())


def test_an_empty_first_look_is_a_first_look() -> None:
    """Where nothing was there at first, nothing is believed afterwards on that strength."""
    board = LeaseTable(TTL).see([], 0.0).see([_lease()], 0.0)
    assert _alive(board, 0.0) == []


def test_one_that_comes_later_must_grow() -> None:
    """A lease met after the first look can be an old copy; it is believed once it has grown."""
    board = _table((1.0, [_lease(counter=7)]), (2.0, [_lease(counter=7)]))
    assert board.standing("a", 2.0) is LeaseStatus.UNPROVEN
    assert _alive(board, 2.0) == []
    assert _alive(board.see([_lease(counter=8)], 3.0), 3.0) == ["a"]


def test_who_has_a_lease_and_did_not_grow_yet_is_a_newcomer() -> None:
    """From the moment its first lease is met until it is believed; no growth, release or successor makes one later."""
    met = _table((1.0, [_lease(counter=7)]))
    assert met.newcomers() == (_lease(counter=7),)
    assert met.see([_lease(counter=8)], 2.0).newcomers() == ()
    assert met.see([_lease(counter=8)], 2.0).see([], 2.0 + TTL).newcomers() == (), "who has fallen silent was there"
    assert met.see([_lease(counter=8, released=True)], 2.0).newcomers() == ()
    assert met.see([_lease("b", replaces="a")], 2.0).newcomers() == (_lease("b", replaces="a"),)
    assert LeaseTable(TTL).see([_lease()], 0.0).newcomers() == (), "what the first look finds is believed"


def test_a_lease_that_only_is_there_shows_nothing() -> None:
    """The same counter read again and again lets the time to live run out."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(3, 40):
        board = board.see([_lease(counter=2)], float(now))
    assert board.standing("a", 21.9) is LeaseStatus.ALIVE
    assert board.standing("a", 22.0) is LeaseStatus.SILENT


def test_a_lease_that_is_missing_shows_nothing() -> None:
    """A copy that was away has no lease although there is one; its instance stays alive for the time to live."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]), (3.0, []), (10.0, []))
    assert board.standing("a", 21.9) is LeaseStatus.ALIVE
    assert board.standing("a", 22.0) is LeaseStatus.SILENT


def test_stale_copies_that_are_read_in_turn_are_no_sign_of_life() -> None:
    """Two copies of a dead instance's lease show 5 and 9 by turns for ever: 9 after 5 is growth only the first time."""
    board = _table((1.0, [_lease(counter=5)]), (2.0, [_lease(counter=9)]))
    for now in range(3, 60):
        board = board.see([_lease(counter=9 if now % 2 else 5)], float(now))
    assert board.standing("a", 21.9) is LeaseStatus.ALIVE
    assert board.standing("a", 22.0) is LeaseStatus.SILENT


def test_both_leases_of_one_instance_in_one_look_are_no_growth() -> None:
    """An instance that has changed its role left a lease under each; to read one after the other shows nothing."""
    left = [_lease(counter=5), _lease(counter=9, role=Role.STANDBY)]
    for leases in (left, left[::-1]):
        newcomer = _table((1.0, leases))
        assert newcomer.standing("a", 1.0) is LeaseStatus.UNPROVEN
        first = LeaseTable(TTL).see(leases, 1.0)
        assert first.unproven(1.0) == (left[1],)
        assert first.see(leases, 5.0).unproven(5.0) == (left[1],)


def test_the_newest_of_what_was_seen_is_what_is_told() -> None:
    """A stale copy read back changes neither the role nor the address that are known."""
    newest = _lease(counter=9, role=Role.STANDBY, address="here:1")
    board = _table((1.0, [_lease(counter=5)]), (2.0, [newest]), (3.0, [_lease(counter=5, address="there:1")]))
    assert board.living(3.0) == (newest,)


def test_silence_ends_with_the_next_growth() -> None:
    """An instance that was taken for dead is alive again when it beats again."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    assert _alive(board, 50.0) == []
    assert _alive(board.see([_lease(counter=3)], 50.0), 50.0) == ["a"]


def test_one_that_was_released_is_dead_at_once() -> None:
    """The last word of an instance that stopped in order saves the others the time to live."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]), (3.0, [_lease(counter=3, released=True)]))
    assert board.standing("a", 3.0) is LeaseStatus.RELEASED
    assert _alive(board, 3.0) == []
    stale = board.see([_lease(counter=2)], 4.0)
    assert stale.standing("a", 4.0) is LeaseStatus.RELEASED


def test_one_found_released_was_never_alive() -> None:
    """Not even the first look believes one that says of itself that it has stopped."""
    assert _alive(LeaseTable(TTL).see([_lease(counter=3, released=True)], 0.0), 0.0) == []


def test_a_later_start_buries_the_one_before() -> None:
    """The lock on their state directory proves the predecessor dead, however fresh its lease is."""
    board = LeaseTable(TTL).see([_lease("old", 90), _lease("new", 1, replaces="old")], 0.0)
    assert board.standing("old", 0.0) is LeaseStatus.REPLACED
    assert _alive(board, 0.0) == ["new"]
    assert _alive(board.see([_lease("old", 91)], 1.0), 1.0) == ["new"]


def test_a_copied_state_directory_buries_nobody_elsewhere() -> None:
    """A directory copied to another node brings the name of that node's instance with it, which lives on."""
    leases = [_lease("old", 90, node="n1"), _lease("new", 1, node="n2", replaces="old")]
    assert _alive(LeaseTable(TTL).see(leases, 0.0), 0.0) == ["old", "new"]


def test_the_successor_of_one_that_was_alive_is_believed_at_once() -> None:
    """After a crash and a restart its node has an instance all along: no old copy can tell of a start after that."""
    board = _table((1.0, [_lease("old", 1)]), (2.0, [_lease("old", 2)]))
    board = board.see([_lease("new", 1, replaces="old")], 10.0)
    assert [board.standing(each, 10.0) for each in ("old", "new")] == [LeaseStatus.REPLACED, LeaseStatus.ALIVE]
    assert board.living(10.0) == board.unproven(10.0) == (_lease("new", 1, replaces="old"),)
    assert board.standing("new", 29.9) is LeaseStatus.ALIVE
    assert board.standing("new", 30.0) is LeaseStatus.SILENT


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
    """Then both can be old copies. That there was a later start is certain all the same, so the former is buried."""
    first = [msgspec.structs.replace(before[0], counter=1)]
    board = _table((1.0, first), (2.0, before)).see([_lease("new", 1, replaces="old")], now)
    assert board.standing("new", now) is LeaseStatus.UNPROVEN
    assert "new" not in _alive(board, now)
    assert board.see([_lease("new", 2, replaces="old")], now).standing("new", now) is LeaseStatus.ALIVE


def test_a_successor_that_is_not_believed_itself_buries_its_predecessor() -> None:
    """That there was a later start is certain as soon as its lease is there, alive or not."""
    board = LeaseTable(TTL).see([_lease("old", 90)], 0.0).see([_lease("new", 1, replaces="old")], 30.0)
    revived = board.see([_lease("old", 91)], 31.0)
    assert [revived.standing(each, 31.0) for each in ("old", "new")] == [LeaseStatus.REPLACED, LeaseStatus.UNPROVEN]
    assert _alive(revived, 31.0) == []


def test_nobody_is_silent_while_nobody_can_write() -> None:
    """While the authentication database is missing the time to live stands still."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(3, 100, 10):
        board = board.suspend_expiry(float(now))
    assert board.standing("a", 93.0 + 19.9) is LeaseStatus.ALIVE
    assert board.standing("a", 93.0 + 20.0) is LeaseStatus.SILENT


def test_excuses_now_and_then_do_not_keep_the_dead_alive() -> None:
    """Only the time in which nobody could look does not count: a look that fails between others adds what it missed."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)]))
    for now in range(4, 24, 2):
        board = board.suspend_expiry(float(now)) if now % 6 == 0 else board.see([_lease(counter=2)], float(now))
    assert board.standing("a", 2.0 + TTL + 6.0 - 0.1) is LeaseStatus.ALIVE, "three looks of two seconds failed"
    assert board.standing("a", 2.0 + TTL + 6.0) is LeaseStatus.SILENT


def test_silence_before_an_excuse_counts() -> None:
    """An instance that was silent for most of the time to live has only the rest of it afterwards."""
    board = _table((1.0, [_lease(counter=1)]), (2.0, [_lease(counter=2)])).see([_lease(counter=2)], 20.0)
    board = board.suspend_expiry(500.0).see([_lease(counter=2)], 501.0)
    assert board.standing("a", 501.9) is LeaseStatus.ALIVE
    assert board.standing("a", 502.0) is LeaseStatus.SILENT


def test_an_excuse_raises_nobody_from_the_dead() -> None:
    """An instance that was silent before, was never proven, or has stopped stays so."""
    board = _table((1.0, [_lease("a", 1), _lease("b", 1), _lease("c", 1)]), (2.0, [_lease("a", 2)]))
    board = board.see([_lease("c", 2, released=True)], 30.0).suspend_expiry(50.0)
    assert [board.standing(each, 50.0) for each in "abc"] == [
        LeaseStatus.SILENT,
        LeaseStatus.UNPROVEN,
        LeaseStatus.RELEASED,
    ]
    assert _alive(board, 50.0) == []


def test_the_dead_are_forgotten_when_no_copy_shows_them_any_more() -> None:
    """Each start has a name of its own; a board that never forgot would grow without end."""
    board = _table((1.0, [_lease("dead", 1)]), (2.0, [_lease("dead", 2)]))
    assert "dead" in board.see([], 2.0 + 29 * TTL).observed
    assert "dead" not in board.see([], 2.0 + 30 * TTL).observed
    kept = board
    for now in range(10, 2000, 10):
        kept = kept.see([_lease("dead", 2)], float(now))
    assert kept.standing("dead", 2000.0) is LeaseStatus.SILENT


def test_one_that_was_forgotten_is_a_newcomer() -> None:
    """Met again after that, its old lease shows as little as any newcomer's."""
    board = _table((1.0, [_lease(counter=2)])).see([], 10_000.0).see([_lease(counter=2)], 10_001.0)
    assert board.standing("a", 10_001.0) is LeaseStatus.UNPROVEN


def test_the_living_are_in_order() -> None:
    """By node, then by incarnation, whatever the order in which they were read."""
    leases = [_lease("c", node="n2"), _lease("b", node="n10"), _lease("a", node="n2")]
    assert _alive(LeaseTable(TTL).see(leases, 0.0), 0.0) == ["b", "a", "c"]


def test_who_was_never_seen_has_no_standing() -> None:
    """Nothing is made up of an incarnation that nobody has met."""
    with pytest.raises(KeyError):
        LeaseTable(TTL).standing("a", 0.0)


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

    The bookkeeping here is the plain rule: the highest counter of a reading, past the highest of all before; or the
    first look; or the start after one that was alive.
    """
    board = LeaseTable(TTL)
    newest: dict[str, Lease] = {}
    grown: dict[str, float] = {}
    now = 0.0
    for number, (pause, leases) in enumerate(readings):
        now += pause
        board = board.see(leases, now)
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
        assert board.standing(lease.incarnation, now) is LeaseStatus.ALIVE
    for name, moment in grown.items():
        if now - moment < TTL:
            assert board.standing(name, now) in (LeaseStatus.ALIVE, LeaseStatus.RELEASED, LeaseStatus.REPLACED)
    assert set(board.unproven(now)) <= set(board.living(now))


def test_nobody_acts_for_a_node_without_an_instance() -> None:
    """Leases of other nodes do not count."""
    assert holder("n1", []) is None
    assert holder("n1", [_lease(node="n2")]) is None


def test_one_that_is_active_keeps_its_place() -> None:
    """However much older the one that stands by has grown, documents do not move for it."""
    active, standby = _lease("a", 3), _lease("b", 900, role=Role.STANDBY)
    for leases in ([active, standby], [standby, active]):
        assert holder("n1", leases) is active


@pytest.mark.parametrize("role", Role)
def test_among_equals_the_elder_acts(role: Role) -> None:
    """The one that has counted further, whether both stand by or both are active."""
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
