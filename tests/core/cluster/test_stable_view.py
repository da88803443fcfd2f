import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import View
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap

QUIET, PATIENCE = 5.0, 20.0
A, B, C = (View((name,), (name,), None) for name in "abc")
MAPS = [ShardMap("_users", ".1", {WHOLE_SPACE: hosts}) for hosts in (("a",), ("a", "b"), ("b",))]
MADE_AGAIN = ShardMap("_users", ".2", {WHOLE_SPACE: ("a",)})
TEAM = View(nodes=("a", "b", "c"), instances=("a", "b", "c"), shard_map=MAPS[0])

HOSTED = ShardMap("_users", ".1", {WHOLE_SPACE: ("a", "b", "c")})

NAMES = st.sets(st.sampled_from("abc")).map(lambda names: tuple(sorted(names)))
VIEWS = st.builds(
    View, nodes=NAMES, instances=NAMES, shard_map=st.sampled_from(MAPS), standby=st.booleans(), newcomers=NAMES
)


def _settled(view: View) -> StableView:
    return StableView(QUIET, PATIENCE).observe(view, 0.0)


def _with(view: View = TEAM, **changes: object) -> View:
    return msgspec.structs.replace(view, **changes)


def _facts(view: View) -> dict[str, object]:
    """The facts of a view that need a quiet period, one by one."""
    return {
        "map": view.shard_map,
        **{f"node {name}": name in view.nodes for name in "abc"},
        **{f"instance {name}": name in view.instances for name in "abc"},
    }


def test_the_first_view_takes_effect_at_once() -> None:
    """Nothing is served before there is a view, so there is nothing to protect by waiting."""
    assert _settled(A).in_force == A
    assert _settled(A).due is None


def test_at_the_start_whoever_can_be_there_is_believed_in() -> None:
    """Where all start together each is there before the others: nobody takes over what will be theirs in a moment."""
    alone = _with(instances=("a",))
    begun = _settled(alone)
    assert (begun.in_force, begun.seen, begun.certain) == (TEAM, alone, False)
    assert begun.due is None


def test_who_shows_up_within_the_quiet_period_was_there_all_along() -> None:
    """No document moves when the expected instances appear. Then all living instances are known."""
    begun = _settled(_with(instances=("a",))).observe(_with(instances=("a", "c")), 2.0)
    assert not begun.certain
    come = begun.observe(TEAM, 4.0)
    assert (come.in_force, come.due, come.certain) == (TEAM, None, True)


def test_who_does_not_show_up_is_not_there_after_the_quiet_period() -> None:
    """An expected instance that stays away loses its documents, as any lost instance does."""
    pair = _with(instances=("a", "b"))
    begun = _settled(pair).observe(pair, QUIET - 0.1)
    assert begun.advance(QUIET).in_force == TEAM
    later = begun.observe(pair, QUIET).advance(QUIET)
    assert (later.in_force, later.certain, later.due) == (pair, True, None)


def test_a_look_from_before_the_end_of_the_quiet_period_does_not_tell_who_has_not_come() -> None:
    """A busy machine is late with its looks, and starts the other instances meanwhile."""
    alone = _with(instances=("a",))
    late = _settled(alone).observe(alone, QUIET - 0.1).advance(10 * QUIET)
    assert (late.in_force, late.certain, late.due) == (TEAM, False, None)
    come = late.observe(TEAM, 10 * QUIET)
    assert (come.in_force, come.certain) == (TEAM, True)


def test_who_is_seen_to_be_starting_has_longer_to_show() -> None:
    """Its lease takes two more looks to be believed, and those are slow where everybody starts at once."""
    alone = _with(instances=("a",))
    begun = _settled(alone).observe(msgspec.structs.replace(alone, newcomers=("b", "c")), 4.0)
    late = begun.observe(begun.seen or TEAM, PATIENCE - 0.2).advance(PATIENCE - 0.1)
    assert (late.in_force, late.certain) == (TEAM, False)
    come = late.observe(TEAM, PATIENCE - 0.1)
    assert (come.in_force, come.due, come.certain) == (TEAM, None, True)


def test_who_does_not_show_any_sign_is_not_waited_for_with_one_who_starts() -> None:
    """Each instance has its own time. When the last time is over, all living instances are known."""
    starting = _with(instances=("a",), newcomers=("b",))
    begun = _settled(_with(instances=("a",))).observe(starting, 4.0)
    half = begun.observe(starting, QUIET).advance(QUIET)
    assert (half.in_force, half.due, half.certain) == (_with(instances=("a", "b")), None, False)
    over = half.observe(starting, PATIENCE).advance(PATIENCE)
    assert (over.in_force and over.in_force.instances, over.due, over.certain) == (("a",), None, True)


def test_a_look_is_due_when_the_time_of_somebody_awaited_is_over() -> None:
    """The next look of its own can be far away, and only a look tells that an instance has not come."""
    alone = _with(instances=("a",), newcomers=("b",))
    begun = _settled(alone)
    assert (begun.due, begun.reading_due) == (None, QUIET)
    half = begun.observe(alone, QUIET).advance(QUIET)
    assert (half.due, half.reading_due) == (None, PATIENCE)
    over = half.observe(alone, PATIENCE).advance(PATIENCE)
    assert (over.due, over.reading_due) == (None, None)
    assert _settled(TEAM).observe(alone, 10.0).reading_due is None


def test_a_start_that_is_broken_off_is_not_waited_for() -> None:
    """An instance that stops again before anybody has believed in it says so by its lease."""
    alone = _with(instances=("a", "b"))
    begun = _settled(alone).observe(msgspec.structs.replace(alone, newcomers=("c",)), 4.0)
    assert begun.advance(QUIET).in_force == TEAM
    assert begun.observe(alone, 6.0).advance(6.0).in_force == alone


def test_a_lease_that_appears_after_the_start_changes_no_quiet_period() -> None:
    """The lease can be an old copy that came back with its node. A lost instance's documents do not wait for it."""
    lost = _with(instances=("a", "b"), newcomers=("c",))
    assert _settled(TEAM).observe(lost, 10.0).due == 10.0 + QUIET


def test_nobody_has_less_time_to_show_for_being_seen() -> None:
    """A quiet period longer than a lease lives is meant as it is."""
    starting = _with(instances=("a", "b"), newcomers=("c",))
    begun = StableView(QUIET, 1.0).observe(starting, 0.0).observe(starting, QUIET - 0.1)
    assert begun.advance(QUIET).in_force == _with(newcomers=("c",))
    assert begun.observe(starting, QUIET).due == QUIET


def test_only_those_in_force_before_the_stop_are_expected_where_they_are_known() -> None:
    """A cluster that has no instance beside some node does not wait for one at every start."""
    alone = _with(instances=("a",))
    assert StableView(QUIET, PATIENCE, expected=("a",)).observe(alone, 0.0).in_force == alone
    some = StableView(QUIET, PATIENCE, expected=("a", "b")).observe(alone, 0.0)
    assert some.in_force == _with(instances=("a", "b"))


def test_nobody_is_expected_beside_a_node_that_is_not_connected() -> None:
    """A lost node's instance cannot come; its documents need not wait for it."""
    left = _with(nodes=("a", "b"), instances=("a", "b"))
    begun = StableView(QUIET, PATIENCE, expected=("a", "b", "c")).observe(left, 0.0)
    assert (begun.in_force, begun.certain) == (left, True)


def test_whoever_is_seen_at_the_start_is_in_force_at_once() -> None:
    """An instance that came meanwhile keeps its documents, because to lose documents needs no quiet period."""
    assert StableView(QUIET, PATIENCE, expected=("a",)).observe(TEAM, 0.0).in_force == TEAM


def test_a_changed_view_takes_effect_after_the_quiet_period() -> None:
    """A view that stays the same for the whole quiet period is believed, and not a moment before."""
    seen = _settled(A).observe(B, 10.0).observe(B, 12.0)
    assert seen.due == 15.0
    assert seen.advance(14.9).in_force == A
    later = seen.advance(15.0)
    assert (later.in_force, later.due) == (B, None)


def test_what_was_seen_last_is_known_at_once() -> None:
    """The view seen last stands beside the one in force, so that what is about to move can be left alone."""
    seen = _settled(A).observe(B, 10.0)
    assert (seen.in_force, seen.seen) == (A, B)
    later = seen.advance(15.0)
    assert (later.in_force, later.seen) == (B, B)


def test_each_fact_begins_a_quiet_period_of_its_own() -> None:
    """A change that has lasted takes effect. Another change that came meanwhile waits for its own period."""
    seen = (
        _settled(TEAM).observe(_with(nodes=("a", "b")), 10.0).observe(_with(nodes=("a", "b"), instances=("a",)), 14.0)
    )
    assert seen.due == 15.0
    one = seen.advance(15.0)
    assert one.in_force == _with(nodes=("a", "b"))
    assert one.due == 19.0
    assert one.advance(18.9).in_force == _with(nodes=("a", "b"))
    assert one.advance(19.0).in_force == _with(nodes=("a", "b"), instances=("a",))


def test_a_view_that_changes_again_begins_a_quiet_period_for_what_is_new() -> None:
    """A loss at 10 takes effect. An instance from 12 to 14 was never there. A change at 14 has its own quiet period."""
    seen = _settled(A).observe(B, 10.0).observe(C, 14.0)
    assert seen.advance(14.9).in_force == A
    half = seen.advance(15.0)
    assert half.in_force == View((), (), None)
    assert half.advance(18.9).in_force == View((), (), None)
    assert half.advance(19.0).in_force == C


def test_a_node_that_flaps_holds_nothing_else_up() -> None:
    """An instance that has died is replaced in its time, however restless another node is."""
    stable_view = _settled(TEAM)
    for second in range(10, 16):
        nodes = ("a", "b") if second % 2 else ("a", "b", "c")
        stable_view = stable_view.observe(_with(nodes=nodes, instances=("a", "c")), float(second)).advance(
            float(second)
        )
    assert stable_view.in_force == _with(instances=("a", "c"))


def test_a_view_that_comes_back_changes_nothing() -> None:
    """A node that flaps within the quiet period moves no document."""
    seen = _settled(A).observe(B, 10.0).observe(A, 12.0)
    assert seen.due is None
    assert seen.advance(1000.0).in_force == A
    again = seen.observe(B, 20.0)
    assert again.due == 25.0


def test_flapping_never_makes_another_settled_view() -> None:
    """A node and an instance that come and go faster than the quiet period leave the very same view in force."""
    stable_view = _settled(TEAM)
    for second in range(1, 60):
        view = TEAM if second % 3 else _with(nodes=("a", "b"), instances=("b", "c"))
        stable_view = stable_view.observe(view, float(second)).advance(float(second))
        assert stable_view.in_force == TEAM


def test_a_shard_map_that_changes_again_begins_its_quiet_period_anew() -> None:
    """While ranges are being split the map changes with each copy; the last of them counts."""
    seen = _settled(TEAM).observe(_with(shard_map=MAPS[1]), 10.0).observe(_with(shard_map=MAPS[2]), 14.0)
    assert seen.advance(15.0).in_force == TEAM
    assert seen.advance(19.0).in_force == _with(shard_map=MAPS[2])


def test_a_database_that_appears_takes_effect_at_once() -> None:
    """Where the authentication database was missing nobody was served, so there is nothing to wait for."""
    seen = _settled(_with(shard_map=None)).observe(TEAM, 10.0)
    assert (seen.in_force, seen.due) == (TEAM, None)


def test_another_life_of_the_database_takes_effect_at_once() -> None:
    """Nothing of a database that was deleted and created again can be served any more."""
    seen = _settled(TEAM).observe(_with(shard_map=MADE_AGAIN), 10.0)
    assert (seen.in_force, seen.due) == (_with(shard_map=MADE_AGAIN), None)


def test_a_new_database_does_not_hurry_the_rest() -> None:
    """Any other change keeps its quiet period."""
    seen = _settled(TEAM).observe(_with(shard_map=MADE_AGAIN, instances=("a",)), 10.0)
    assert (seen.in_force, seen.due) == (_with(shard_map=MADE_AGAIN), 15.0)


def test_a_database_that_disappears_waits_for_the_quiet_period() -> None:
    """A shard map that cannot be read once must not stop every listener."""
    seen = _settled(TEAM).observe(_with(shard_map=None), 10.0)
    assert seen.advance(14.9).in_force == TEAM
    assert seen.advance(15.0).in_force == _with(shard_map=None)


def test_standing_by_takes_effect_at_once() -> None:
    """Two active instances of one node would act on the same documents. The end of standby does not wait either."""
    standing_by = _settled(TEAM).observe(_with(standby=True), 10.0)
    assert (standing_by.in_force, standing_by.due) == (_with(standby=True), None)
    back = standing_by.observe(TEAM, 11.0)
    assert (back.in_force, back.due) == (TEAM, None)


def test_without_a_quiet_period_a_change_takes_effect_at_the_next_look() -> None:
    """A quiet period of 0 seconds is none."""
    assert StableView(0.0, 0.0).observe(A, 0.0).observe(B, 1.0).advance(1.0).in_force == B


@given(
    quiet=st.floats(0.0, 100.0),
    patience=st.floats(0.0, 200.0),
    looks=st.lists(st.tuples(st.floats(0.0, 50.0), VIEWS), min_size=1),
)
def test_what_is_believed_was_seen_unchanged_long_enough(
    quiet: float, patience: float, looks: list[tuple[float, View]]
) -> None:
    """Each fact newly believed was the only one seen for the quiet period before, in any history of looks."""
    stable_view = StableView(quiet, patience)
    now = 0.0
    seen: list[tuple[float, View]] = []
    for pause, view in looks:
        now += pause
        before = stable_view.in_force
        stable_view = stable_view.advance(now)
        if before is not None and stable_view.in_force is not None:
            believed, old = _facts(stable_view.in_force), _facts(before)
            for fact in (each for each in believed if believed[each] != old[each]):
                assert believed[fact] == _facts(seen[-1][1])[fact]
                first = now
                for at, earlier in reversed(seen):
                    if _facts(earlier)[fact] != believed[fact]:
                        break
                    first = at
                assert now - first >= quiet - 1e-9
        stable_view = stable_view.observe(view, now)
        seen.append((now, view))
    assert stable_view.seen == looks[-1][1]
    later = now + max(quiet, patience) + 1.0
    rested = stable_view.observe(looks[-1][1], later).advance(later)
    assert rested.certain
    assert _facts(rested.in_force or TEAM) == _facts(looks[-1][1])


@given(looks=st.lists(st.tuples(st.floats(0.0, 50.0), VIEWS), min_size=1))
def test_it_is_due_exactly_when_waiting_longer_changes_something(looks: list[tuple[float, View]]) -> None:
    """The returned moment is the first at which the view in force changes without another look."""
    stable_view = StableView(QUIET, PATIENCE)
    now = 0.0
    for pause, view in looks:
        now += pause
        stable_view = stable_view.observe(view, now).advance(now)
        if stable_view.due is None:
            assert stable_view.in_force
            assert stable_view.seen
            assert stable_view.awaited or _facts(stable_view.in_force) == _facts(stable_view.seen)
            assert stable_view.advance(now + 1e6) == stable_view
        else:
            assert stable_view.due > now
            assert stable_view.advance(now).in_force == stable_view.in_force
            assert stable_view.advance(stable_view.due).in_force != stable_view.in_force


UNREADABLE = _with(instances=("a",), leases_readable=False)


def test_while_leases_cannot_be_read_nobody_is_missed() -> None:
    """Silence proves nothing while leases cannot be read, however long. That itself takes effect at once."""
    blind = _settled(TEAM).observe(UNREADABLE, 10.0)
    assert (blind.due, blind.certain) == (None, True)
    assert blind.advance(10_000.0).in_force == _with(leases_readable=False)
    assert blind.observe(TEAM, 10_001.0).in_force == TEAM


def test_whose_node_is_away_is_missed_all_the_same() -> None:
    """The instance acts on its side of the cut. This follows from the connection, not from the silence."""
    cut = msgspec.structs.replace(UNREADABLE, nodes=("a", "b"))
    later = _settled(TEAM).observe(cut, 10.0).advance(10.0 + QUIET)
    assert later.in_force == _with(cut, instances=("a", "b"))


def test_silence_begun_before_leases_could_not_be_read_is_begun_anew() -> None:
    """The quiet period counts from the first look that can tell dead from unread."""
    alone = _with(instances=("a",))
    silent = _settled(TEAM).observe(alone, 10.0).observe(UNREADABLE, 12.0).observe(alone, 100.0)
    assert silent.advance(100.0 + QUIET - 0.1).in_force == TEAM
    assert silent.advance(100.0 + QUIET).in_force == alone


def test_who_is_awaited_at_the_start_is_awaited_until_leases_can_be_read() -> None:
    """Nothing is certain before, and then everybody has the whole quiet period to show."""
    begun = _settled(UNREADABLE)
    assert begun.in_force == _with(leases_readable=False)
    late = begun.advance(10_000.0)
    assert (late.certain, late.due, late.in_force) == (False, None, begun.in_force)
    seen = late.observe(_with(instances=("a", "b")), 10_000.0)
    assert seen.advance(10_000.0 + QUIET).in_force == TEAM
    again = seen.observe(_with(instances=("a", "b")), 10_000.0 + QUIET)
    assert again.advance(10_000.0 + QUIET).in_force == _with(instances=("a", "b"))


def _drained(*names: str, **changes: object) -> View:
    """The team with a copy of the range on each node, as it is once these instances have given up their documents."""
    left = tuple(each for each in "abc" if each not in names)
    return msgspec.structs.replace(_with(shard_map=HOSTED, instances=left, drained=names), **changes)


def test_the_documents_of_a_drained_instance_move_at_once() -> None:
    """Its last process has ended before the others hear of it, and no other document changes its owner."""
    before = _settled(_drained())
    after = before.observe(_drained("b"), 1.0)
    assert after.in_force is not None
    assert after.in_force.instances == ("a", "c")
    assert (after.due, after.certain) == (None, True)


def test_where_others_documents_move_too_a_drain_takes_the_quiet_period() -> None:
    """Nobody but the drained instance hosts the range, so all others adopt it, and they hear of it one by one."""
    hosted_by_b = ShardMap("_users", ".1", {WHOLE_SPACE: ("b",)})
    before = _settled(_with(shard_map=hosted_by_b))
    drained = msgspec.structs.replace(_drained("b"), shard_map=hosted_by_b)
    after = before.observe(drained, 1.0)
    assert after.in_force is not None
    assert after.in_force.instances == ("a", "b", "c")
    assert after.due == 1.0 + QUIET
    assert after.advance(1.0 + QUIET).in_force == drained


def test_a_range_that_is_about_to_move_decides_as_well() -> None:
    """The shard map in force and the one seen last both count."""
    before = _settled(_drained())
    after = before.observe(msgspec.structs.replace(_drained("b"), shard_map=MAPS[2]), 1.0)
    assert after.in_force is not None
    assert after.in_force.instances == ("a", "b", "c")


def test_an_instance_gives_up_its_own_documents_at_once_in_any_case() -> None:
    """It must have ended before it says so."""
    hosted_by_b = ShardMap("_users", ".1", {WHOLE_SPACE: ("b",)})
    before = _settled(_with(shard_map=hosted_by_b, me="b"))
    after = before.observe(msgspec.structs.replace(_drained("b", me="b"), shard_map=hosted_by_b), 1.0)
    assert after.in_force is not None
    assert after.in_force.instances == ("a", "c")
    assert after.in_force.gives_up


def test_an_instance_takes_its_documents_back_after_the_quiet_period() -> None:
    """As when it starts, the others leave them alone from then on."""
    drained = _settled(_drained()).observe(_drained("b", me="b"), 1.0)
    back = drained.observe(_drained(me="b"), 10.0)
    assert back.in_force is not None
    assert back.in_force.gives_up
    assert back.due == 10.0 + QUIET
    assert back.advance(10.0 + QUIET).in_force == _drained(me="b")


def test_a_drained_instance_is_not_awaited_at_a_start() -> None:
    """Who starts beside it knows by its lease that it serves nobody."""
    begun = _settled(_drained("b"))
    assert begun.in_force is not None
    assert begun.in_force.instances == ("a", "c")
    assert begun.certain


def test_while_leases_cannot_be_read_a_drained_instance_stays_drained() -> None:
    """What its last lease said still holds."""
    drained = _settled(_drained()).observe(_drained("b"), 1.0)
    blind = drained.observe(_drained("b", leases_readable=False), 2.0)
    assert blind.in_force is not None
    assert blind.in_force.instances == ("a", "c")
