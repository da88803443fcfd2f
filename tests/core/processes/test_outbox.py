"""Looks that are open, until the listeners of their ranges have finished them."""

import itertools

import pytest

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.views import Copy
from peruserd.core.feed.lanes import Lane
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import WHOLE_SPACE, split_evenly
from peruserd.core.processes import outbox as outbox_module
from peruserd.core.processes.messages import CompareNames, Look, LookAtAll
from peruserd.core.processes.outbox import Outbox

LOW, HIGH = (Copy("_users", each, "node1@host", ".1") for each in split_evenly(2))
IDS = [f"org.couchdb.user:u{number}" for number in range(40)]
IN_LOW = [each for each in IDS if document_hash(each) in LOW.range]
IN_HIGH = [each for each in IDS if document_hash(each) in HIGH.range]


def made_outbox() -> Outbox:
    """Return an outbox for both halves."""
    outbox = Outbox("me")
    outbox.follow([LOW, HIGH])
    return outbox


def place(number: int) -> Mark:
    """Return a place in the list of databases."""
    return Mark("u", number)


def looks(outbox: Outbox, copy: Copy, after: int = 0) -> list[Look]:
    """Return the looks that a listener is to be told of."""
    return [each for each in outbox.messages(copy, after) if isinstance(each, Look)]


def test_each_listener_is_told_of_its_own_range() -> None:
    """A document is asked for in the range that holds its hash, and nowhere else."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IDS)
    (low,), (high,) = looks(outbox, LOW), looks(outbox, HIGH)
    assert (list(low.document_ids), list(high.document_ids)) == (IN_LOW, IN_HIGH)
    assert (low.lane, low.made) == (Lane.OTHERS, False)


def test_a_place_is_seen_to_once_every_range_has_finished() -> None:
    """The place stays before the oldest look that is open."""
    outbox = made_outbox()
    outbox.mark(place(1))
    assert outbox.seen_to == place(1)
    outbox.ask(Lane.OTHERS, IDS)
    first = outbox.number
    outbox.mark(place(2))
    outbox.ask(Lane.OTHERS, IN_LOW[:1])
    outbox.mark(place(3))
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to == place(1)
    outbox.acknowledge(LOW, first)
    # The document that was asked for again is open under its newer number.
    assert outbox.seen_to == place(2)
    outbox.acknowledge(LOW, outbox.number)
    assert (outbox.seen_to, len(outbox)) == (place(3), 0)


def test_a_listener_that_starts_anew_is_told_of_all_that_is_open() -> None:
    """The end of a process loses no look. A running process only gets new ones."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IN_LOW[:3])
    first = outbox.number
    outbox.ask(Lane.OPERATOR, IN_LOW[3:6])
    assert [each.number for each in looks(outbox, LOW)] == [first, outbox.number]
    assert [each.number for each in looks(outbox, LOW, after=first)] == [outbox.number]


@pytest.mark.parametrize("reasons", [(Lane.OPERATOR, Lane.OTHERS), (Lane.OTHERS, Lane.OPERATOR)], ids=["first", "last"])
def test_an_operators_look_stays_one_when_others_change_the_database_too(reasons: tuple[Lane, Lane]) -> None:
    """An instance does the operator's look itself. Only the owner looks for another reason."""
    outbox = made_outbox()
    for reason in reasons:
        outbox.ask(reason, IN_LOW[:1])
    assert [each.lane for each in looks(outbox, LOW)] == [Lane.OPERATOR]


def test_the_more_urgent_reason_is_kept() -> None:
    """A document that is open for one reason and asked for by another has the more urgent one."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IN_LOW[:1])
    outbox.ask(Lane.AUDIT, IN_LOW[:1])
    assert [each.lane for each in looks(outbox, LOW)] == [Lane.OTHERS]


def test_a_deletion_is_no_mere_creation_any_more() -> None:
    """A database that was made and then deleted is looked at, whoever made it."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IN_LOW[:1], made=True)
    assert [each.made for each in looks(outbox, LOW)] == [True]
    outbox.ask(Lane.OTHERS, IN_LOW[:1])
    outbox.ask(Lane.OTHERS, IN_LOW[:1], made=True)
    assert [each.made for each in looks(outbox, LOW)] == [False]


def test_a_message_holds_a_bounded_number_of_ids() -> None:
    """Thousands of looks are several messages, each with a number of its own."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, [f"org.couchdb.user:{number}" for number in range(1_200)])
    messages = [*looks(outbox, LOW), *looks(outbox, HIGH)]
    assert sum(len(each.document_ids) for each in messages) == 1_200
    assert {each.number for each in messages} == {outbox.number - 2, outbox.number - 1, outbox.number}
    assert max(len(each.document_ids) for each in messages) <= 500


def told(outbox: Outbox, copy: Copy) -> tuple[set[str], bool]:
    """Return the documents that a starting listener must look at, and whether it must compare names."""
    messages = list(outbox.messages(copy))
    assert sorted(each.number for each in messages) == [each.number for each in messages]
    ids = {each for message in messages if isinstance(message, Look) for each in message.document_ids}
    return ids, any(isinstance(each, CompareNames) for each in messages)


def test_more_looks_than_there_is_room_for_become_one_at_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enemy who deletes databases without end neither fills the memory nor hides a wrong database."""
    monkeypatch.setattr(outbox_module, "_MAX_OPEN", 100)
    outbox = made_outbox()
    ids = {f"org.couchdb.user:{number}" for number in range(110)}
    outbox.ask(Lane.OTHERS, sorted(ids))
    outbox.mark(place(1))
    assert len(outbox) <= 100
    scanned = []
    for copy in (LOW, HIGH):
        asked, compares = told(outbox, copy)
        assert not compares
        requests = [each for each in outbox.messages(copy) if isinstance(each, LookAtAll)]
        assert requests or asked == {each for each in ids if document_hash(each) in copy.range}
        scanned += [(copy, each) for each in requests]
    for copy in (LOW, HIGH):
        outbox.acknowledge(copy, outbox.number)
    assert scanned
    assert (outbox.seen_to, len(outbox)) == (None, 0), "the looks are over, and the range is still scanned"
    for copy, request in scanned:
        outbox.acknowledge(copy, outbox.number, request.number)
    assert outbox.seen_to == place(1)


def test_a_place_amidst_looks_that_became_too_many_is_not_seen_to_before_the_scan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that died between the two would have forgotten all of them."""
    monkeypatch.setattr(outbox_module, "_MAX_OPEN", 100)
    outbox = Outbox("me")
    outbox.follow([LOW])
    ids = many(LOW, 400)
    for number, document_id in enumerate(ids):
        outbox.ask(Lane.OTHERS, [document_id])
        outbox.mark(place(number))
    outbox.compare_names()
    assert outbox.seen_to is None
    assert outbox.finished == 0
    newest = [each.number for each in outbox.messages(LOW) if isinstance(each, LookAtAll)][-1]
    outbox.acknowledge(LOW, outbox.number, newest - 1)
    assert outbox.seen_to is None
    outbox.acknowledge(LOW, outbox.number, newest)
    assert outbox.seen_to == place(399)


def test_requests_to_look_at_everybody_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new listener gets the same request again. Another process numbers its own requests from the start."""
    monkeypatch.setattr(outbox_module, "_MAX_OPEN", 10)
    found = []
    for incarnation in ("a", "b"):
        outbox = Outbox(incarnation)
        outbox.follow([LOW])
        outbox.ask(Lane.OTHERS, IN_LOW)
        (again,) = {each.request for _ in range(2) for each in outbox.messages(LOW) if isinstance(each, LookAtAll)}
        found.append(again)
    assert found[0] != found[1]


def many(copy: Copy, count: int) -> list[str]:
    """Return so many documents of the range of a copy."""
    ids = (f"org.couchdb.user:{number}" for number in range(10 * count))
    return list(itertools.islice((each for each in ids if document_hash(each) in copy.range), count))


def test_a_range_that_nobody_can_read_fills_the_memory_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is lost, and the others neither wait nor compare names for it."""
    monkeypatch.setattr(outbox_module, "_MAX_OPEN", 100)
    outbox = Outbox("me")
    outbox.follow([LOW], [HIGH.range])
    outbox.ask(Lane.OPERATOR, IN_HIGH[:1])
    for turn in range(50):
        outbox.ask(Lane.OTHERS, many(HIGH, 60)[turn:])
        outbox.ask(Lane.OTHERS, many(HIGH, 500)[60:])
        outbox.ask(Lane.OTHERS, IN_LOW)
        assert len(outbox) <= 101
        assert told(outbox, LOW) == (set(IN_LOW), False)
        outbox.acknowledge(LOW, outbox.number)
        assert told(outbox, LOW) == (set(), False)
    outbox.mark(place(1))
    assert outbox.seen_to is None
    outbox.follow([LOW, HIGH])
    asked, _ = told(outbox, HIGH)
    assert any(isinstance(each, LookAtAll) for each in outbox.messages(HIGH))
    assert IN_HIGH[0] in asked
    outbox.acknowledge(HIGH, outbox.number, outbox.number)
    assert outbox.seen_to == place(1)


def test_a_comparison_waits_for_a_range_that_nobody_can_read() -> None:
    """Its listener was gone before it was told, and goes on from its checkpoint when it is back."""
    outbox = made_outbox()
    outbox.compare_names()
    outbox.mark(place(1))
    outbox.follow([LOW], [HIGH.range])
    outbox.acknowledge(LOW, outbox.number)
    # A process that ends may still say what it had done before.
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to is None
    outbox.follow([LOW, HIGH])
    assert (told(outbox, LOW), told(outbox, HIGH)) == ((set(), False), (set(), True))
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to == place(1)


def test_halves_of_a_range_that_is_split_are_told_of_all_that_is_open() -> None:
    """The halves do all that was asked of the whole."""
    whole = Copy("_users", WHOLE_SPACE, "node1@host", ".1")
    outbox = Outbox("me")
    outbox.follow([whole])
    outbox.ask(Lane.OTHERS, IDS)
    outbox.compare_names()
    outbox.mark(place(1))
    outbox.follow([whole, LOW])
    outbox.follow([LOW, HIGH])
    assert (told(outbox, LOW), told(outbox, HIGH)) == ((set(IN_LOW), True), (set(IN_HIGH), True))
    outbox.acknowledge(LOW, outbox.number)
    assert outbox.seen_to is None
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to == place(1)


def test_a_range_that_takes_the_place_of_two_is_seen_to_once_all_that_is_open_of_both_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An order can be newer than the other range's order, and still replace older looks."""
    monkeypatch.setattr(outbox_module, "_MAX_OPEN", 4)
    outbox = made_outbox()
    outbox.mark(place(1))
    outbox.ask(Lane.OTHERS, IN_HIGH[:1])
    outbox.mark(place(2))
    outbox.ask(Lane.OTHERS, IN_LOW[:4])
    outbox.mark(place(3))
    outbox.ask(Lane.OTHERS, IN_HIGH[1:4])
    outbox.ask(Lane.OTHERS, IN_HIGH[4:6])
    assert any(isinstance(each, LookAtAll) for each in outbox.messages(LOW))
    assert any(isinstance(each, LookAtAll) for each in outbox.messages(HIGH))
    whole = Copy("_users", WHOLE_SPACE, "node1@host", ".1")
    outbox.follow([whole])
    outbox.acknowledge(whole, outbox.number)
    assert outbox.seen_to == place(1)
    outbox.acknowledge(whole, outbox.number, outbox.number)
    assert outbox.seen_to == place(3)


def test_looks_of_one_number_are_closed_together() -> None:
    """Two reasons under one number are two messages, and the first one tells nothing of the end of the other."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IN_LOW[:1])
    outbox.ask(Lane.AUDIT, IN_LOW[:2])
    first, second = looks(outbox, LOW)
    assert (first.lane, second.lane, second.number) == (Lane.OTHERS, Lane.AUDIT, outbox.number)
    outbox.acknowledge(LOW, first.number)
    assert len(outbox) == 2
    outbox.acknowledge(LOW, second.number)
    assert len(outbox) == 0


def test_an_instance_without_a_range_remembers_a_comparison_and_no_looks() -> None:
    """It can get one at any time, with a checkpoint of before."""
    outbox = Outbox("me")
    outbox.follow([])
    outbox.ask(Lane.OTHERS, IDS)
    outbox.compare_names()
    assert len(outbox) == 0
    outbox.follow([LOW])
    assert told(outbox, LOW) == (set(), True)


def test_what_was_passed_over_while_an_instance_stood_by_is_compared_and_not_seen_to_before() -> None:
    """The active one can have died with looks open, and the one that takes its place may hold a valid checkpoint."""
    outbox = made_outbox()
    outbox.mark(place(1))
    outbox.follow([])
    outbox.ask(Lane.OTHERS, IN_LOW[:1])
    outbox.mark(place(2))
    assert (outbox.has_ranges, outbox.seen_to) == (False, place(1))
    outbox.follow([LOW, HIGH])
    assert (told(outbox, LOW), told(outbox, HIGH)) == ((set(), True), (set(), True))
    outbox.acknowledge(LOW, outbox.number)
    assert outbox.seen_to == place(1)
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to == place(2)


def test_a_range_that_joins_the_plan_has_its_names_compared() -> None:
    """Its looks were another instance's until now, such as those of a range that is adopted for the second time."""
    outbox = made_outbox()
    outbox.follow([LOW])
    outbox.ask(Lane.OTHERS, IN_HIGH)
    outbox.mark(place(1))
    assert outbox.seen_to == place(1)
    outbox.follow([LOW, HIGH])
    assert (told(outbox, LOW), told(outbox, HIGH)) == ((set(), False), (set(), True))


def test_looks_at_what_nobody_here_listens_to_are_closed() -> None:
    """Another instance owns them, and has begun with a scan of its own."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IDS)
    outbox.compare_names()
    outbox.mark(place(1))
    outbox.follow([LOW])
    assert not looks(outbox, HIGH)
    assert [list(each.document_ids) for each in looks(outbox, LOW)] == [IN_LOW]
    outbox.follow([])
    assert outbox.seen_to == place(1)


def test_names_are_compared_by_every_listener() -> None:
    """Each is told until it has taken it in, and a new process is told again."""
    outbox = made_outbox()
    outbox.compare_names()
    outbox.mark(place(1))
    assert list(outbox.messages(LOW)) == list(outbox.messages(HIGH)) == [CompareNames(outbox.number)]
    outbox.acknowledge(LOW, outbox.number)
    assert list(outbox.messages(LOW)) == []
    assert outbox.seen_to is None
    outbox.acknowledge(HIGH, outbox.number - 1)
    assert list(outbox.messages(HIGH)) == [CompareNames(outbox.number)]
    outbox.acknowledge(HIGH, outbox.number)
    assert outbox.seen_to == place(1)


def test_names_are_compared_by_the_first_listeners_there_are() -> None:
    """The list of databases can be read before it is known which copies are listened to."""
    outbox = Outbox("me")
    outbox.compare_names()
    outbox.mark(place(1))
    assert outbox.seen_to is None
    outbox.follow([LOW])
    assert list(outbox.messages(LOW)) == [CompareNames(outbox.number)]
    assert outbox.seen_to is None
    outbox.acknowledge(LOW, outbox.number)
    assert outbox.seen_to == place(1)


def test_what_nobody_here_listens_to_is_never_opened() -> None:
    """Sign-ups of other instances' ranges neither fill the memory nor keep the place from moving on."""
    outbox = Outbox("me")
    outbox.follow([LOW])
    outbox.ask(Lane.OTHERS, IDS, made=True)
    outbox.mark(place(1))
    assert len(outbox) == len(IN_LOW)
    outbox.acknowledge(LOW, outbox.number)
    assert outbox.seen_to == place(1)


def test_messages_come_in_the_order_of_their_numbers() -> None:
    """A listener takes each number for the end of all before it, so none may come behind a greater one."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IN_LOW[:2])
    outbox.compare_names()
    outbox.ask(Lane.OTHERS, IN_LOW[2:4])
    messages = list(outbox.messages(LOW))
    assert [type(each) for each in messages] == [Look, CompareNames, Look]
    assert [each.number for each in messages] == [1, 2, 3]
    assert [each.number for each in outbox.messages(LOW, after=1)] == [2, 3]


def test_places_are_few_while_nothing_is_finished() -> None:
    """A listener that is on hold for days does not fill the memory, and the newest place is not lost."""
    outbox = made_outbox()
    outbox.ask(Lane.OTHERS, IDS)
    for number in range(5_000):
        outbox.mark(place(number))
    for copy in (LOW, HIGH):
        outbox.acknowledge(copy, outbox.number)
    assert len(outbox._marks) <= 1_000
    assert outbox.seen_to == place(4_999)


def test_looks_in_a_range_that_nobody_can_read_wait_for_it() -> None:
    """Its listener goes on from its checkpoint and scans nothing, so what happened meanwhile must be known."""
    outbox = Outbox("me")
    outbox.follow([LOW], [HIGH.range])
    outbox.ask(Lane.OTHERS, IN_HIGH)
    outbox.mark(place(1))
    outbox.follow([LOW], [HIGH.range])
    assert outbox.seen_to is None
    outbox.follow([LOW, HIGH])
    assert [list(each.document_ids) for each in looks(outbox, HIGH)] == [IN_HIGH]
