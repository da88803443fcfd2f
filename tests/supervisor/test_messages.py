"""The messages between a fleet and its listeners, with processes that only note them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from peruserd.core.cluster.views import Copy, Plan, View, make_plan
from peruserd.core.common.secret import Secret
from peruserd.core.feed.rows import Sequence
from peruserd.core.ownership.ranges import WHOLE_SPACE, Range, ShardMap, split_evenly
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.lifecycle import Timing
from peruserd.core.processes.messages import (
    CheckToken,
    FromListener,
    Hello,
    Inform,
    JournalNews,
    ListenerStart,
    Reauthenticate,
    Report,
    Stage,
    Stop,
    TakeOverDoubts,
    Token,
    ToListener,
    Usage,
)
from peruserd.core.processes.restarts import RestartBudget
from peruserd.supervisor import fleet as fleet_module
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.start_request import StartRequest
from tests.starting import listener_start
from tests.supervisor.fleet_harness import FixedGatekeeper

LOWER, UPPER = Range(0, 0x7FFFFFFF), Range(0x80000000, 0xFFFFFFFF)
QUARTER = Range(0, 0x3FFFFFFF)


def _map(hosts: dict[Range, tuple[str, ...]], suffix: str = ".1") -> ShardMap:
    return ShardMap("_users", suffix, hosts)


def _plan(*ranges: Range, node: str = "n1", suffix: str = ".1") -> Plan:
    return make_plan(View((node,), (node,), _map(dict.fromkeys(ranges, (node,)), suffix)), node)


class NotedProcess:
    """A stand-in for a process: it keeps the messages that it gets, and sends those that the test gives."""

    def __init__(self, start: ListenerStart, pid: int) -> None:
        self.copy = start.copy
        self.pid = pid
        self.start = start
        self.code = 0
        self.sent: list[ToListener] = []
        self.says: list[FromListener] = []

    def send(self, message: ToListener) -> None:
        self.sent.append(message)

    def receive(self) -> list[FromListener]:
        said, self.says = self.says, []
        return said

    @property
    def planned(self) -> list[ToListener]:
        """The messages about its work, without those about its token."""
        return [each for each in self.sent if not isinstance(each, Reauthenticate)]

    @property
    def informed(self) -> list[Inform]:
        """The messages with its assignment and its limits."""
        return [each for each in self.sent if isinstance(each, Inform)]

    def reap(self) -> int:
        return self.code


def state_file(copy: Copy) -> Path:
    """Return where the state of a copy would be."""
    return Path("/state") / str(copy)


class Noted:
    """A fleet of such processes, at a fixed time."""

    def __init__(self) -> None:
        self.requests: list[StartRequest] = []
        self.processes: dict[Copy, NotedProcess] = {}
        self.looks_wanted = 0
        self.before_spawn: Callable[[], None] = lambda: None
        self.gatekeeper = FixedGatekeeper(Token(1, cookie=Secret("one")))
        self.fleet = Fleet(
            self._start_message,
            max_in_flight=8,
            timing=Timing(),
            budget=RestartBudget(),
            state_file=state_file,
            on_copy_lost=self._look_soon,
            gatekeeper=self.gatekeeper,
        )

    def _look_soon(self) -> None:
        self.looks_wanted += 1

    def _start_message(self, request: StartRequest) -> ListenerStart:
        self.requests.append(request)
        return listener_start(request.assignment, share=request.conditions.share, resume_near=request.resume_near)

    def spawn(self, start: ListenerStart) -> NotedProcess:
        """Make a stand-in instead of a process."""
        self.before_spawn()
        made = self.processes[start.copy] = NotedProcess(start, len(self.requests))
        return made

    def adjust(self, plan: Plan) -> list[NotedProcess]:
        """Bring the fleet to a plan; return the plan's processes, in its order."""
        self.fleet.adjust(plan, 0.0)
        return [self.processes[each.copy] for each in plan.assignments]

    def run(self, plan: Plan) -> list[NotedProcess]:
        """Bring the fleet to a plan, and let each listener say hello."""
        processes = self.adjust(plan)
        for process in processes:
            self.say(process, Hello())
        return processes

    def say(self, process: NotedProcess, *messages: FromListener) -> None:
        """Let a listener send a message, and the fleet receive it."""
        process.says.extend(messages)
        self.fleet.receive(process.copy, 0.0)

    def end(self, process: NotedProcess) -> None:
        """End a listener's process."""
        self.fleet.on_exit(process.copy, 0.0)

    def begun_near(self) -> dict[str, Sequence | None]:
        """Return where each listener should begin, by its range."""
        return {str(each.assignment.copy.range): each.resume_near for each in self.requests}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    """A fleet whose processes only note messages."""
    made = Noted()
    monkeypatch.setattr(fleet_module, "ListenerProcess", made.spawn)
    return made


def _report(
    stage: Stage = Stage.FOLLOWING,
    checkpoint: Sequence | None = None,
    rounds: int = 1,
    *,
    caught_up: bool = False,
    informed: int = 0,
) -> Report:
    return Report(
        rounds=rounds,
        stage=stage,
        caught_up=caught_up,
        checkpoint=checkpoint,
        shard_sequence=None,
        waiting=0,
        in_flight=0,
        quarantined=0,
        counters=Counters(),
        informed=informed,
    )


def test_a_listener_learns_what_has_changed_while_it_started(noted: Noted) -> None:
    """Its start message can be out of date when it says hello, so only then its assignment is sent again."""
    shard_map = _map({WHOLE_SPACE: ("n1", "n2")})
    alone, both = (View(("n1", "n2"), names, shard_map) for names in (("n1",), ("n1", "n2")))
    (process,) = noted.adjust(make_plan(alone, "n1"))
    (warned,) = make_plan(alone, "n1", both).assignments
    noted.adjust(make_plan(alone, "n1", both))
    assert process.sent == []
    noted.say(process, Hello())
    assert process.planned == [Inform(1, warned.ownership, warned.upcoming, 8, nodes=("n1", "n2"))]


def test_a_listener_is_told_what_is_coming_and_what_is_in_force(noted: Noted) -> None:
    """Another instance comes. Its documents are first left alone, and then belong to it. The process goes on."""
    shard_map = _map({WHOLE_SPACE: ("n1", "n2")})
    alone, both = (View(("n1", "n2"), names, shard_map) for names in (("n1",), ("n1", "n2")))
    (process,) = noted.run(make_plan(alone, "n1"))
    process.sent.clear()
    for settled, seen in ((alone, both), (both, both), (both, both)):
        noted.adjust(make_plan(settled, "n1", seen))
    (before,), (after,) = (make_plan(view, "n1").assignments for view in (alone, both))
    nodes = ("n1", "n2")
    assert process.sent == [
        Inform(2, before.ownership, after.ownership, 8, nodes=nodes),
        Inform(3, after.ownership, None, 8, nodes=nodes),
    ]
    assert len(noted.requests) == 1


def test_every_listener_learns_which_nodes_are_connected(noted: Noted) -> None:
    """Each change of the connected nodes is sent, even if no owner changes, because users may wait for a node."""
    halves = _map(dict.fromkeys(split_evenly(2), ("n1", "n2")))
    both, alone = (View(nodes, ("n1",), halves) for nodes in (("n1", "n2"), ("n1",)))
    processes = noted.run(make_plan(both, "n1"))
    assert [request.conditions.nodes for request in noted.requests] == [("n1", "n2")] * 2
    for process in processes:
        process.sent.clear()
    noted.adjust(make_plan(alone, "n1"))
    noted.adjust(make_plan(alone, "n1"))
    assert [[message.nodes for message in process.informed] for process in processes] == [[("n1",)]] * 2
    assert [len(process.sent) for process in processes] == [1, 1]


def test_a_report_from_before_the_last_assignment_does_not_count(noted: Noted) -> None:
    """The report was sent before the listener got more documents, so it says nothing about these."""
    shard_map = _map({WHOLE_SPACE: ("n1", "n2")})
    both, alone = (View(("n1", "n2"), names, shard_map) for names in (("n1", "n2"), ("n1",)))
    (process,) = noted.run(make_plan(both, "n1"))
    noted.say(process, _report(caught_up=True, informed=1))
    assert noted.fleet.status().ready
    noted.adjust(make_plan(alone, "n1"))
    assert not noted.fleet.status().ready
    noted.say(process, _report(rounds=2, caught_up=True, informed=1))
    assert not noted.fleet.status().ready
    noted.say(process, _report(rounds=3, informed=2))
    assert not noted.fleet.status().ready
    noted.say(process, _report(rounds=4, caught_up=True, informed=2))
    assert noted.fleet.status().ready


def test_what_a_listener_reported_before_its_end_does_not_count(noted: Noted) -> None:
    """Its successor has caught up once its own report says so, and not with its hello."""
    (process,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(process, _report(caught_up=True, informed=1))
    assert noted.fleet.status().ready
    noted.end(process)
    assert not noted.fleet.status().ready
    noted.fleet.run_deadlines(1.0)
    successor = noted.processes[process.copy]
    noted.say(successor, Hello())
    assert not noted.fleet.status().ready
    noted.say(successor, _report(caught_up=True))
    assert not noted.fleet.status().ready
    noted.say(successor, _report(rounds=2, caught_up=True, informed=2))
    assert noted.fleet.status().ready


@pytest.mark.parametrize(("most", "each"), [(0, 0), (1, 1), (7, 3)])
def test_the_limit_on_new_databases_is_divided(noted: Noted, most: int, each: int) -> None:
    """The listeners share the limit, at least 1 each; 0 means no limit."""
    noted.fleet._new_per_minute = most
    halves = _map(dict.fromkeys(split_evenly(2), ("n1",)))
    processes = noted.run(make_plan(View(("n1",), ("n1",), halves), "n1"))
    assert [request.conditions.new_per_minute for request in noted.requests] == [each] * 2
    assert [[message.new_per_minute for message in process.informed] for process in processes] == [[each]] * 2


def test_a_listener_is_started_with_what_is_coming(noted: Noted) -> None:
    """A listener that starts within a quiet period must leave alone the documents that are about to move."""
    shard_map = _map({WHOLE_SPACE: ("n1", "n2")})
    alone, both = (View(("n1", "n2"), names, shard_map) for names in (("n1",), ("n1", "n2")))
    plan = make_plan(alone, "n1", both)
    noted.adjust(plan)
    assert plan.assignments[0].upcoming is not None
    assert [each.assignment for each in noted.requests] == list(plan.assignments)


def test_halves_of_a_split_copy_begin_near_where_the_whole_had_come_to(noted: Noted) -> None:
    """The listeners of both parts find at once the users who signed up during the split."""
    (whole,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(whole, _report(checkpoint=50), _report(checkpoint=70))
    noted.adjust(_plan(LOWER, UPPER))
    assert noted.begun_near() == {str(WHOLE_SPACE): None, str(LOWER): 70, str(UPPER): 70}


def test_a_part_begins_near_the_narrowest_copy_it_was_split_from(noted: Noted) -> None:
    """Of the whole range and its half, the half is newer, and its sequences went further."""
    (whole,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(whole, _report(checkpoint=70))
    lower, _ = noted.run(_plan(LOWER, UPPER))
    noted.say(lower, _report(checkpoint=90))
    noted.adjust(_plan(QUARTER, UPPER))
    assert noted.begun_near()[str(QUARTER)] == 90


@pytest.mark.parametrize(
    "plan", [_plan(LOWER, node="n2"), _plan(LOWER, suffix=".2")], ids=["another-node", "another-life"]
)
def test_a_copy_that_is_no_part_of_the_former_begins_from_nothing(noted: Noted, plan: Plan) -> None:
    """Sequences of another node's copy, or of an earlier database with this name, mean nothing here."""
    (whole,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(whole, _report(checkpoint=70))
    noted.adjust(plan)
    assert noted.begun_near()[str(LOWER)] is None


def test_a_listener_that_never_got_anywhere_gives_no_hint(noted: Noted) -> None:
    """Without a checkpoint there is no place to start from."""
    (whole,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(whole, _report(Stage.CONNECTING))
    noted.adjust(_plan(LOWER))
    assert noted.begun_near()[str(LOWER)] is None


def test_a_copy_that_cannot_be_read_any_more_asks_for_a_look(noted: Noted) -> None:
    """Perhaps the range was split. A copy that could not be read before, or is still away, causes no reading."""
    (process,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(process, _report(Stage.CONNECTING))
    assert noted.looks_wanted == 0
    noted.say(process, _report(Stage.SCANNING))
    noted.say(process, _report(Stage.CONNECTING))
    assert noted.looks_wanted == 1
    noted.say(process, _report(Stage.CONNECTING, rounds=2))
    assert noted.looks_wanted == 1
    noted.say(process, _report(), _report(Stage.CONNECTING))
    assert noted.looks_wanted == 2


def test_only_a_listener_whose_copy_is_lost_puts_right_what_it_did_last(noted: Noted) -> None:
    """After a shutdown others take over in their own time, and this instance may be back before that."""
    lower, upper = noted.run(_plan(LOWER, UPPER))
    noted.adjust(_plan(UPPER))
    noted.fleet.stop(0.0)
    stops = [[message.leaving for message in each.sent if isinstance(message, Stop)] for each in (lower, upper)]
    assert stops == [[True], [False]]


def test_one_listener_hears_which_state_files_are_in_use(noted: Noted) -> None:
    """It takes over all others. It hears of them once it runs, and once all instances are known."""
    starting, other = noted.adjust(_plan(LOWER, UPPER))
    noted.fleet.retire_state()
    assert (starting.sent, other.sent) == ([], [])
    noted.say(starting, Hello())
    noted.say(other, Hello())
    noted.fleet.retire_state()
    assert _told(starting) == [{starting.copy, other.copy}]
    assert _told(other) == []


def test_before_all_instances_are_known_no_state_is_given_away(noted: Noted) -> None:
    """At a start the copies that it will follow are not all known, and state of theirs spares a scan."""
    (process,) = noted.run(_plan(WHOLE_SPACE))
    assert _told(process) == []
    noted.fleet.retire_state()
    assert _told(process) == [{process.copy}]


def test_the_file_of_a_listener_that_has_left_is_handed_over(noted: Noted) -> None:
    """The file is given away only after its process has ended, because only one process may write it."""
    lower, upper = noted.run(_plan(UPPER, LOWER))[::-1]
    noted.fleet.retire_state()
    noted.adjust(_plan(UPPER))
    noted.say(lower, _report())
    assert _told(upper) == [{lower.copy, upper.copy}]
    noted.end(lower)
    assert _told(upper) == [{lower.copy, upper.copy}, {upper.copy}]


def test_a_listener_that_comes_back_keeps_its_file(noted: Noted) -> None:
    """If a copy has a listener again, or will have one, its file stays with that listener."""
    lower, upper = noted.run(_plan(UPPER, LOWER))[::-1]
    noted.fleet.retire_state()
    noted.adjust(_plan(UPPER))
    noted.adjust(_plan(LOWER, UPPER))
    noted.end(lower)
    assert noted.processes[lower.copy] is not lower
    assert _told(upper) == [{lower.copy, upper.copy}]


def test_whoever_takes_over_hears_of_a_new_copy_before_its_file_is_opened(noted: Noted) -> None:
    """The file of an earlier time may be there, and its listener wants it."""
    (upper,) = noted.run(_plan(UPPER))
    noted.fleet.retire_state()
    told: list[list[set[Copy]]] = []
    noted.before_spawn = lambda: told.append(_told(upper))
    _, lower = noted.adjust(_plan(UPPER, LOWER))
    assert told == [[{upper.copy}, {upper.copy, lower.copy}]]


def test_another_listener_takes_over_where_the_one_that_was_told_has_ended(noted: Noted) -> None:
    """An end of any other listener changes nothing, so no message is sent."""
    first, second = noted.run(_plan(LOWER, UPPER))
    noted.fleet.retire_state()
    noted.end(second)
    assert (_told(first), _told(second)) == ([{first.copy, second.copy}], [])
    noted.fleet.run_deadlines(1.0)
    again = noted.processes[second.copy]
    noted.say(again, Hello())
    noted.end(first)
    assert _told(again) == [{first.copy, second.copy}]


def _told(process: NotedProcess) -> list[set[Copy]]:
    """Return the copies whose files were in use, by each message to a listener about that."""
    named = [set(each.in_use) for each in process.sent if isinstance(each, TakeOverDoubts)]
    copies = [assignment.copy for assignment in _plan(LOWER, UPPER, WHOLE_SPACE).assignments]
    return [{copy for copy in copies if state_file(copy).name in each} for each in named]


def test_what_a_listener_reported_last_outlives_it(noted: Noted) -> None:
    """The halves start near the last checkpoint, even if the listener of the whole range had ended before."""
    (whole,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(whole, _report(checkpoint=70))
    noted.end(whole)
    noted.adjust(_plan(LOWER))
    assert noted.begun_near()[str(LOWER)] == 70


def _let_in(process: NotedProcess) -> list[Reauthenticate]:
    return [each for each in process.sent if isinstance(each, Reauthenticate)]


def test_a_listener_is_told_what_its_requests_carry_when_it_is_up(noted: Noted) -> None:
    """The session in its start message can be out of date."""
    (process,) = noted.adjust(_plan(WHOLE_SPACE))
    noted.gatekeeper.token = Token(2, cookie=Secret("two"))
    noted.say(process, Hello())
    assert _let_in(process) == [Reauthenticate(noted.gatekeeper.token)]


def test_all_listeners_are_told_what_their_requests_carry_from_now_on(noted: Noted) -> None:
    """This includes the news that there is no token, and requests must wait."""
    processes = noted.run(_plan(LOWER, UPPER))
    for token in (None, Token(3, cookie=Secret("three"))):
        noted.gatekeeper.token = token
        noted.fleet.send_token(None)
        assert all(_let_in(process)[-1] == Reauthenticate(token) for process in processes)


def test_a_doubt_is_answered_to_the_process_that_has_it(noted: Noted) -> None:
    """Other listeners get no answer, and neither does a later process of the same copy, with other numbers."""
    lower, upper = noted.run(_plan(LOWER, UPPER))
    noted.say(lower, CheckToken(7, "n2"))
    assert noted.gatekeeper.checks == [(lower.pid, 7, "n2")]
    noted.fleet.send_token({lower.pid: 7})
    assert [each.answers for each in _let_in(lower)] == [0, 7]
    assert [each.answers for each in _let_in(upper)] == [0]
    noted.end(lower)
    noted.fleet.run_deadlines(1.0)
    successor = noted.processes[lower.copy]
    assert successor is not lower
    noted.say(successor, Hello())
    noted.fleet.send_token({lower.pid: 7})
    assert [each.answers for each in _let_in(successor)] == [0]


def test_what_is_known_of_the_journal_is_passed_on(noted: Noted) -> None:
    """Every listener gets the news. A listener that starts later is told whether the journal can be used."""
    plan = make_plan(View(("n1",), ("n1",), _map({LOWER: ("n1",), UPPER: ("n1",)})), "n1")
    first, second = noted.adjust(plan)
    noted.say(first, Hello())
    first.sent.clear()
    news = JournalNews(usable=True, spoken_of=("deletion:x:1-a",), pause_changed=True)
    noted.fleet.send_journal_news(news)
    assert first.sent == [news]
    second.sent.clear()
    noted.say(second, Hello())
    assert JournalNews(usable=True) in second.sent


def test_the_processor_time_of_a_listener_never_falls(noted: Noted) -> None:
    """The time of ended processes is kept, and the last figures of one do not stand for the next one."""
    (process,) = noted.run(_plan(WHOLE_SPACE))
    noted.say(process, msgspec.structs.replace(_report(), usage=Usage(2.5, 1, 1, 1)))
    noted.end(process)
    (listener,) = noted.fleet.status().listeners
    assert listener.retired_cpu_seconds == 2.5
    assert listener.report is not None
    assert listener.report.usage is None
