"""Absent nodes, and the rows that they may have missed."""

from peruserd.core.cluster.absences import Absences
from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.leases import Breaks

ALL = ("n1", "n2", "n3")
PAIR = ("n1", "n2")


def _place(sequence: int, uuid: str = "list") -> Mark:
    return Mark(uuid, sequence)


def _absences(*, kept: dict[str, Mark] | None = None, start: Mark | None = None) -> Absences:
    return Absences(kept or {}, start)


def _read_all(absences: Absences, asked: int = 1) -> list[tuple[str, int | str]]:
    """Read everything to the end of the list, for every node; return the nodes and the first places."""
    found = []
    while (reading := absences.next_reading()) is not None:
        node, place = reading
        found.append((node, place.sequence))
        absences.read(node, _place(9_999), asked, to_end=True)
    return found


def test_what_a_node_missed_begins_well_before_it_was_seen_to_be_away() -> None:
    """A node that hangs is taken for connected for more than a minute, and takes part in nothing."""
    absences = _absences()
    for second in range(0, 400, 2):
        absences.observe(ALL, ALL, _place(second), float(second))
    absences.observe(PAIR, ALL, _place(400), 400.0)
    assert absences.next_reading() is None
    absences.observe(ALL, ALL, _place(410), 410.0)
    assert _read_all(absences) == [("n3", 310)]


def test_the_list_is_read_once_more_when_the_node_has_settled() -> None:
    """CouchDB's own repair can have changed a database that was made while the node came back."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0)
    absences.observe(PAIR, ALL, _place(2), 200.0)
    absences.observe(PAIR, ALL, _place(3), 230.0)
    absences.observe(ALL, ALL, _place(4), 250.0)
    assert _read_all(absences) == [("n3", 1)]
    absences.observe(ALL, ALL, _place(5), 261.0)
    assert _read_all(absences) == []
    absences.observe(ALL, ALL, _place(6), 262.0)
    assert _read_all(absences) == [("n3", 3)]
    absences.observe(ALL, ALL, _place(7), 400.0)
    assert _read_all(absences) == []


def test_a_node_is_missed_until_all_looks_are_over() -> None:
    """If a process ends before that, the next one finds the saved place."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0)
    absences.observe(PAIR, ALL, _place(2), 200.0)
    absences.observe(ALL, ALL, _place(3), 210.0)
    _read_all(absences, asked=7)
    absences.seen_to(7)
    assert absences.kept == {"n3": _place(1)}, "it is read once more"
    absences.observe(ALL, ALL, _place(4), 230.0)
    _read_all(absences, asked=9)
    absences.seen_to(8)
    assert absences.kept == {"n3": _place(1)}
    absences.seen_to(9)
    assert absences.kept == {}


def test_a_node_that_leaves_again_has_missed_all_of_both_times() -> None:
    """The looks after its first return may have found the node away."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0)
    absences.observe(PAIR, ALL, _place(2), 200.0)
    absences.observe(ALL, ALL, _place(300), 300.0)
    _read_all(absences)
    absences.observe(PAIR, ALL, _place(301), 301.0)
    absences.observe(ALL, ALL, _place(600), 600.0)
    assert _read_all(absences) == [("n3", 1)]


def test_the_next_process_goes_on_from_what_was_kept() -> None:
    """The next process continues, whether or not the node has returned."""
    kept = {"n2": _place(5), "n3": _place(6)}
    absences = _absences(kept=kept, start=_place(90))
    absences.observe(("n1", "n2"), ALL, _place(100), 0.0)
    assert _read_all(absences) == [("n2", 5)]
    absences.observe(ALL, ALL, _place(101), 5.0)
    assert _read_all(absences) == [("n3", 6)]


def test_a_host_that_is_away_at_the_start_is_missed_since_the_last_stop() -> None:
    """The node left while no process was running. Without a saved place it counts as absent from the first place on."""
    absences = _absences(start=_place(90))
    absences.observe(PAIR, ALL, _place(100), 0.0)
    absences.observe(ALL, ALL, _place(200), 100.0)
    assert _read_all(absences) == [("n3", 90)]
    absences = _absences()
    absences.observe(PAIR, ALL, None, 0.0)
    absences.observe(PAIR, ALL, _place(100), 1.0)
    absences.observe(ALL, ALL, _place(200), 300.0)
    assert _read_all(absences) == [("n3", 100)]


def test_all_of_another_list_may_have_been_missed() -> None:
    """The list of this instance's own node was replaced, or put back from a backup, while another one was away."""
    for other in (_place(500, "another list"), _place(1)):
        absences = _absences()
        absences.observe(ALL, ALL, _place(10), 0.0)
        absences.observe(PAIR, ALL, _place(11), 200.0)
        absences.observe(PAIR, ALL, other, 210.0)
        absences.observe(ALL, ALL, other, 220.0)
        assert _read_all(absences) == [("n3", 0)]


def test_a_long_list_is_read_on_from_where_it_was_left() -> None:
    """A page at a time, for one node after the other."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0)
    absences.observe(("n1",), ALL, _place(2), 200.0)
    absences.observe(ALL, ALL, _place(3_000), 300.0)
    reading = absences.next_reading()
    assert reading is not None
    node, _ = reading
    absences.read(node, _place(1_001), 1, to_end=False)
    assert absences.next_reading() == (node, _place(1_001))
    absences.read(node, _place(2_001), 2, to_end=True)
    assert [each for each, _ in _read_all(absences)] == [({"n2", "n3"} - {node}).pop()]


def test_names_that_never_return_are_bounded() -> None:
    """Deployments that give each node a new name do not fill the disk."""
    absences = _absences()
    for number in range(3_000):
        absences.observe((f"n{number}",), (), _place(number), float(number))
    assert len(absences.kept) == 1_000
    assert "n2998" in absences.kept


def test_an_absence_between_two_looks_is_told_by_the_instance_beside_the_node() -> None:
    """A reported absence is handled like a seen one. Breaks from before an instance's first report do not count."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0, [Breaks("n2", "a", 4), Breaks("n3", "b", 4)])
    absences.observe(ALL, ALL, _place(2), 200.0, [Breaks("n2", "a", 4), Breaks("n3", "b", 5)])
    assert _read_all(absences) == [("n3", 1)]
    absences.observe(ALL, ALL, _place(3), 202.0, [Breaks("n2", "another", 9), Breaks("n3", "b", 5)])
    assert _read_all(absences) == []


def test_an_absence_that_was_seen_is_not_told_once_more() -> None:
    """The lease with the report arrives some seconds after the node's return."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0, [Breaks("n3", "b", 0)])
    absences.observe(PAIR, ALL, _place(2), 200.0, [Breaks("n3", "b", 0)])
    absences.observe(ALL, ALL, _place(3), 204.0, [Breaks("n3", "b", 0)])
    assert _read_all(absences) == [("n3", 1)]
    absences.observe(ALL, ALL, _place(4), 208.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences) == []


def test_a_node_that_breaks_again_while_it_is_seen_to_is_read_for_once_more() -> None:
    """The last reading may be from before the second break, and its looks are still open."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0, [Breaks("n3", "b", 0)])
    absences.observe(ALL, ALL, _place(200), 200.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences) == [("n3", 1)]
    absences.observe(ALL, ALL, _place(212), 212.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences, asked=2) == [("n3", 1)], "no later place is known of 15 s before"
    absences.observe(ALL, ALL, _place(222), 222.0, [Breaks("n3", "b", 2)])
    absences.seen_to(2)
    assert "n3" in absences.kept, "a restart does not forget the second break"
    absences.observe(ALL, ALL, _place(234), 234.0, [Breaks("n3", "b", 2)])
    assert _read_all(absences, asked=3) == [("n3", 1)]
    absences.seen_to(3)
    assert absences.kept == {}


def test_a_break_amidst_a_reading_is_read_for_after_it() -> None:
    """The reading under way has passed rows that came with the second break."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0, [Breaks("n3", "b", 0)])
    absences.observe(ALL, ALL, _place(2), 200.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences) == [("n3", 1)]
    absences.observe(ALL, ALL, _place(5_000), 212.0, [Breaks("n3", "b", 1)])
    absences.read("n3", _place(1_000), 2, to_end=False)
    absences.observe(ALL, ALL, _place(5_001), 214.0, [Breaks("n3", "b", 2)])
    absences.read("n3", _place(5_001), 3, to_end=True)
    absences.seen_to(3)
    absences.observe(ALL, ALL, _place(5_002), 226.0, [Breaks("n3", "b", 2)])
    assert _read_all(absences, asked=4) == [("n3", 1)]


def _away_for_long() -> Absences:
    """Return the state after the return of a node that was away from second 200 to 900, while 700 rows came."""
    absences = _absences()
    for second in range(0, 901, 2):
        absences.observe(
            PAIR if 200 <= second < 900 else ALL, ALL, _place(second), float(second), [Breaks("n3", "b", 0)]
        )
    return absences


def test_a_short_break_amidst_the_looks_of_a_long_absence_leaves_that_one_open() -> None:
    """Looks that are open can have found the node away, however old their rows are."""
    absences = _away_for_long()
    assert absences.next_reading() == ("n3", _place(110))
    absences.read("n3", _place(400), 1, to_end=False)
    absences.read("n3", _place(900), 2, to_end=True)
    # This is how the instance beside the node has seen the long one.
    absences.observe(ALL, ALL, _place(902), 902.0, [Breaks("n3", "b", 1)])
    absences.seen_to(1)
    absences.observe(ALL, ALL, _place(904), 904.0, [Breaks("n3", "b", 2)])
    absences.seen_to(2)
    assert absences.kept == {"n3": _place(400)}
    absences.observe(ALL, ALL, _place(916), 916.0, [Breaks("n3", "b", 2)])
    assert _read_all(absences, asked=3) == [("n3", 400)], "what is behind the looks that were over is looked at again"
    absences.seen_to(3)
    assert absences.kept == {}


def test_the_absence_that_was_seen_is_not_looked_after_twice() -> None:
    """The instance beside the node tells of it once the node is back."""
    absences = _away_for_long()
    _read_all(absences, asked=1)
    absences.observe(ALL, ALL, _place(904), 904.0, [Breaks("n3", "b", 1)])
    absences.observe(ALL, ALL, _place(916), 916.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences, asked=2) == [("n3", 814)]
    absences.seen_to(2)
    assert absences.kept == {}


def test_a_node_that_comes_and_goes_is_not_looked_after_from_the_beginning_each_time() -> None:
    """Looks that were done while the node was there stay done. Only rows shortly before each departure are repeated."""
    absences = _away_for_long()
    assert _read_all(absences, asked=1) == [("n3", 110)]
    found = []
    for turn in range(20):
        second = 904 + 8 * turn
        absences.seen_to(turn + 1)
        absences.observe(PAIR, ALL, _place(second), float(second))
        absences.observe(ALL, ALL, _place(second + 4), second + 4.0)
        found += [int(place) for _, place in _read_all(absences, asked=turn + 2)]
    assert all(second - 100 < place for place, second in zip(found, range(904, 904 + 160, 8), strict=True))
    absences.observe(ALL, ALL, _place(2_000), 1_100.0)
    _read_all(absences, asked=100)
    absences.seen_to(100)
    assert absences.kept == {}


def test_looks_that_end_while_the_node_is_away_again_count_for_nothing() -> None:
    """Those looks were done without the node."""
    absences = _away_for_long()
    _read_all(absences, asked=1)
    absences.observe(PAIR, ALL, _place(904), 904.0)
    absences.seen_to(1)
    absences.observe(ALL, ALL, _place(910), 910.0)
    assert _read_all(absences, asked=2) == [("n3", 110)]


def test_a_restart_goes_on_behind_the_looks_that_were_over() -> None:
    """The place on disk moves on with them."""
    absences = _away_for_long()
    absences.read("n3", _place(400), 1, to_end=False)
    absences.seen_to(1)
    assert absences.kept == {"n3": _place(400)}
    again = _absences(kept=absences.kept, start=_place(900))
    again.observe(ALL, ALL, _place(950), 0.0)
    assert _read_all(again) == [("n3", 400)]


def test_a_list_that_was_put_back_amidst_a_reading_is_read_anew() -> None:
    """The part of the list that was read already has other rows now."""
    absences = _away_for_long()
    absences.read("n3", _place(800), 1, to_end=False)
    absences.observe(ALL, ALL, _place(500), 902.0)
    absences.seen_to(1)
    assert _read_all(absences) == [("n3", 110)]


def test_a_break_is_told_also_after_a_silence_of_the_instance() -> None:
    """A node that hangs stays connected for a while, and the instance beside it is taken for dead."""
    absences = _absences()
    absences.observe(ALL, ALL, _place(1), 0.0, [Breaks("n3", "b", 0)])
    absences.observe(ALL, ALL, _place(2), 200.0, [])
    absences.observe(ALL, ALL, _place(3), 240.0, [Breaks("n3", "b", 1)])
    assert _read_all(absences) == [("n3", 1)]
