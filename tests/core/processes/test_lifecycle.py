from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core.common.backoff import Backoff
from peruserd.core.processes.lifecycle import (
    Action,
    Awoke,
    Child,
    Due,
    Event,
    Exited,
    Greeted,
    Ordered,
    Progressed,
    Reason,
    State,
    Timing,
    Unwanted,
    Wanted,
    step,
)
from tests.quick import examples

TIMING = Timing(
    start_seconds=60.0,
    silence_seconds=90.0,
    stop_seconds=10.0,
    abort_seconds=2.0,
    recovery_seconds=30.0,
    backoff=Backoff(initial_seconds=0.5, max_seconds=120.0),
    again=Backoff(initial_seconds=0.5, max_seconds=15.0),
)
MAX_STOP_SECONDS = TIMING.stop_seconds + TIMING.abort_seconds
ESCALATION = [Action.ASK, Action.ABORT, Action.KILL]
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


class Scenario:
    """A child and a clock that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.child = Child()

    def state(self) -> State:
        """Return the state that the child is in now."""
        return self.child.state

    def tell(self, event: Event) -> list[Action]:
        """Let an event happen now; give what is to be done."""
        self.child, actions = step(self.child, event, self.now, TIMING)
        return list(actions)

    def wait(self, seconds: float) -> list[tuple[float, Action]]:
        """Let time pass, with `Due` whenever a deadline is reached; give each action with the seconds waited so far."""
        begin, end = self.now, self.now + seconds
        done = []
        while self.child.deadline is not None and self.child.deadline <= end:
            self.now = max(self.now, self.child.deadline)
            done += [(self.now - begin, action) for action in self.tell(Due())]
        self.now = end
        return done

    def run(self, *, caught_up_for: float = 0.0) -> None:
        """Start the child for the first time and let it recover."""
        self.tell(Wanted())
        self.recover(caught_up_for)

    def recover(self, caught_up_for: float) -> None:
        """Let the process greet, and report a round every ten seconds, caught up."""
        self.tell(Greeted())
        self.tell(Progressed(caught_up=True))
        for _ in range(int(caught_up_for / 10)):
            self.wait(10.0)
            self.tell(Progressed(caught_up=True))

    def crash(self, code: int = 1) -> float:
        """End the process; give the longest time after which the next one is started."""
        assert self.tell(Exited(code, chance=0.999_999)) == []
        assert self.child.deadline is not None
        seconds = self.child.deadline - self.now
        assert self.wait(seconds) == [(seconds, Action.SPAWN)]
        return round(seconds, 3)


@pytest.fixture
def scenario() -> Scenario:
    """A child that was never wanted yet."""
    return Scenario()


def test_a_wanted_child_is_started_at_once_and_runs_when_it_has_greeted(scenario: Scenario) -> None:
    """The first start waits for nothing. A process is only up once it has greeted."""
    assert scenario.tell(Wanted()) == [Action.SPAWN]
    assert scenario.state() is State.STARTING
    assert scenario.tell(Greeted()) == []
    assert scenario.state() is State.RUNNING


def test_being_wanted_again_starts_no_second_process(scenario: Scenario) -> None:
    """The plan may say what it has said before."""
    scenario.run()
    assert scenario.tell(Wanted()) == []


def test_a_child_that_never_greets_is_aborted_killed_and_tried_again(scenario: Scenario) -> None:
    """A start that takes too long ends in a traceback and a restart, with the reason kept."""
    scenario.tell(Wanted())
    assert scenario.wait(63.0) == [(60.0, Action.ABORT), (62.0, Action.KILL)]
    assert scenario.tell(Exited(code=-9, chance=0.5)) == []
    assert (scenario.child.state, scenario.child.reason) == (State.BACKOFF, Reason.SLOW_START)
    assert scenario.wait(1.0) == [(0.25, Action.SPAWN)]


def test_a_child_that_stops_beating_is_aborted_and_killed(scenario: Scenario) -> None:
    """Silence brings SIGABRT, for the traceback, then SIGKILL, again and again until the process is gone."""
    scenario.run()
    scenario.wait(50.0)
    scenario.tell(Progressed(caught_up=False))
    actions = [(90.0, Action.ABORT), (92.0, Action.KILL), (94.0, Action.KILL)]
    assert scenario.wait(95.0) == actions
    scenario.tell(Exited(code=-9, chance=0.5))
    assert (scenario.child.state, scenario.child.reason) == (State.BACKOFF, Reason.SILENT)


def test_a_child_is_not_ended_because_its_supervisor_stood_still(scenario: Scenario) -> None:
    """In a paused container both are silent. Afterwards the child has its whole time again, and no more than that."""
    scenario.run()
    scenario.now += 3_600.0
    assert scenario.tell(Awoke()) == []
    assert scenario.wait(89.0) == []
    assert scenario.wait(1.0) == [(1.0, Action.ABORT)]


def test_a_start_is_not_ended_because_the_supervisor_stood_still(scenario: Scenario) -> None:
    """The same holds for a process that has not greeted yet."""
    scenario.tell(Wanted())
    scenario.now += 3_600.0
    assert scenario.tell(Awoke()) == []
    assert scenario.wait(60.0) == [(60.0, Action.ABORT)]


def test_a_standstill_takes_no_end_back(scenario: Scenario) -> None:
    """A child that was asked to stop, and a restart that is due, keep their time."""
    scenario.run()
    scenario.tell(Unwanted(Reason.UNPLANNED))
    before = scenario.child
    scenario.tell(Awoke())
    assert scenario.child == before
    scenario.tell(Wanted())
    scenario.tell(Exited(code=0, chance=0.5))
    scenario.tell(Exited(code=1, chance=0.5))
    before = scenario.child
    scenario.tell(Awoke())
    assert scenario.child == before


def test_a_beat_takes_a_child_that_was_given_up_no_longer_back(scenario: Scenario) -> None:
    """Once aborted it will end, so a late sign of life changes nothing."""
    scenario.run()
    scenario.wait(90.0)
    aborted = scenario.child
    for late in (Progressed(caught_up=True), Greeted()):
        scenario.tell(late)
        assert scenario.child == aborted


def test_stopping_is_asked_for_and_then_enforced(scenario: Scenario) -> None:
    """A child that is no longer wanted is asked, ten seconds later aborted, two later killed."""
    scenario.run()
    assert scenario.tell(Unwanted(Reason.UNPLANNED)) == [Action.ASK]
    assert scenario.wait(12.0) == [(10.0, Action.ABORT), (12.0, Action.KILL)]
    assert scenario.tell(Exited(code=-9, chance=0.5)) == []
    assert (scenario.child.state, scenario.child.reason) == (State.STOPPED, Reason.UNPLANNED)


def test_being_asked_twice_to_stop_grants_no_more_time(scenario: Scenario) -> None:
    """A shutdown during a stop keeps the deadline, but gives the reason."""
    scenario.run()
    scenario.tell(Unwanted(Reason.UNPLANNED))
    scenario.wait(8.0)
    assert scenario.tell(Unwanted(Reason.SHUTDOWN)) == []
    assert scenario.wait(2.0) == [(2.0, Action.ABORT)]
    assert scenario.child.reason is Reason.SHUTDOWN


def test_a_child_wanted_again_while_it_stops_starts_anew_once_it_is_gone(scenario: Scenario) -> None:
    """A plan that changes its mind waits for the old process, then for nothing more, and counts no failure."""
    scenario.run()
    scenario.tell(Unwanted(Reason.UNPLANNED))
    assert scenario.tell(Wanted()) == []
    assert scenario.tell(Exited(code=0, chance=0.9)) == [Action.SPAWN]
    assert scenario.child.failures == 0


def test_a_silent_child_that_is_no_longer_wanted_is_not_restarted(scenario: Scenario) -> None:
    """An abort under way goes on when the plan drops the child, and nothing follows it."""
    scenario.run()
    assert scenario.wait(90.0) == [(90.0, Action.ABORT)]
    assert scenario.tell(Unwanted(Reason.UNPLANNED)) == []
    assert scenario.wait(2.0) == [(2.0, Action.KILL)]
    assert scenario.tell(Exited(code=-6, chance=0.0)) == []
    assert scenario.child.state is State.STOPPED
    assert scenario.wait(3600.0) == []


def test_a_child_that_waits_for_its_restart_and_is_no_longer_wanted_stays_down(scenario: Scenario) -> None:
    """Unwanted during the back-off means no restart."""
    scenario.run()
    scenario.tell(Exited(code=1, chance=0.5))
    assert scenario.tell(Unwanted(Reason.UNPLANNED)) == []
    assert scenario.child.state is State.STOPPED
    assert scenario.wait(3600.0) == []


def test_being_wanted_does_not_cut_a_back_off_short(scenario: Scenario) -> None:
    """A plan that repeats itself while a child waits for its restart leaves it waiting."""
    scenario.run()
    scenario.tell(Exited(code=1, chance=0.5))
    assert scenario.tell(Wanted()) == []
    assert scenario.wait(1.0) == [(0.25, Action.SPAWN)]


@pytest.mark.parametrize("code", [0, 1, 70, 71, 78, 255, -9, -11])
def test_an_end_that_nobody_asked_for_is_a_crash(scenario: Scenario, code: int) -> None:
    """A wanted child that ends, by whatever signal or code, a clean one included, is restarted after a back-off."""
    scenario.run()
    assert scenario.tell(Exited(code=code, chance=0.5)) == []
    assert (scenario.child.state, scenario.child.reason) == (State.BACKOFF, Reason.CRASHED)
    assert scenario.wait(0.5) == [(0.25, Action.SPAWN)]


def test_a_child_that_asks_for_another_start_gets_it_soon_and_is_no_fault(scenario: Scenario) -> None:
    """Exit code 75 names a cause outside of the child, which can end at any time. So the pauses stay short."""
    scenario.run()
    waits = []
    for _ in range(8):
        waits.append(scenario.crash(code=75))
        scenario.tell(Greeted())
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert (scenario.child.reason, scenario.child.failures, scenario.child.faults) == (Reason.AGAIN, 8, 0)


@pytest.mark.parametrize("greeted", [False, True])
def test_an_ordered_restart_asks_the_child_and_starts_the_next_at_once(scenario: Scenario, *, greeted: bool) -> None:
    """It has its time to finish, nobody waits for a back-off, and it is no failure."""
    scenario.tell(Wanted())
    if greeted:
        scenario.tell(Greeted())
    assert scenario.tell(Ordered()) == [Action.ASK]
    assert (scenario.child.state, scenario.child.wanted) == (State.STOPPING, True)
    assert scenario.tell(Ordered()) == []
    assert scenario.tell(Exited(code=0, chance=0.9)) == [Action.SPAWN]
    assert (scenario.child.failures, scenario.child.faults) == (0, 0)


def test_an_ordered_restart_of_a_child_that_hangs_is_enforced(scenario: Scenario) -> None:
    """The order holds, however the old process ends."""
    scenario.run()
    scenario.tell(Ordered())
    assert scenario.wait(12.0) == [(10.0, Action.ABORT), (12.0, Action.KILL)]
    assert scenario.tell(Exited(code=-9, chance=0.9)) == [Action.SPAWN]
    assert scenario.child.faults == 0


def test_an_ordered_restart_cuts_a_back_off_short_and_begins_anew(scenario: Scenario) -> None:
    """Whoever orders it may have cured the cause. The next failure counts as the first one."""
    scenario.run()
    for _ in range(5):
        scenario.crash()
    scenario.tell(Exited(code=1, chance=0.9))
    assert scenario.tell(Ordered()) == [Action.SPAWN]
    assert scenario.crash() == 0.5


def test_an_order_brings_back_no_child_that_nobody_wants(scenario: Scenario) -> None:
    """The plan decides which children there are."""
    assert scenario.tell(Ordered()) == []
    scenario.run()
    scenario.tell(Unwanted(Reason.UNPLANNED))
    assert scenario.tell(Ordered()) == []
    assert scenario.tell(Exited(code=0, chance=0.5)) == []
    assert scenario.child.state is State.STOPPED


def test_crashes_in_a_row_wait_longer_each_time(scenario: Scenario) -> None:
    """The bound of the back-off doubles with each crash, up to the most; merely starting resets nothing."""
    scenario.run()
    waits = []
    for _ in range(10):
        waits.append(scenario.crash())
        scenario.tell(Greeted())
        scenario.tell(Progressed(caught_up=True))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0]


@pytest.mark.parametrize(("caught_up_for", "bound"), [(20.0, 4.0), (30.0, 0.5)])
def test_failures_are_forgotten_when_the_child_has_stayed_caught_up(
    scenario: Scenario, caught_up_for: float, bound: float
) -> None:
    """After thirty seconds without a backlog the next crash is a first one, before that it is one more."""
    scenario.run()
    for _ in range(3):
        scenario.crash()
    scenario.recover(caught_up_for)
    assert scenario.crash() == bound


def test_falling_behind_starts_the_recovery_anew(scenario: Scenario) -> None:
    """Thirty seconds count only in one piece."""
    scenario.run()
    scenario.crash()
    scenario.recover(20.0)
    scenario.tell(Progressed(caught_up=False))
    scenario.recover(20.0)
    assert scenario.child.failures == 1


def test_time_caught_up_before_a_crash_does_not_count_after_it(scenario: Scenario) -> None:
    """A new process has to catch up by itself, however well its predecessor stood."""
    scenario.run(caught_up_for=100.0)
    scenario.crash()
    scenario.wait(10.0)
    scenario.recover(0.0)
    assert scenario.child.failures == 1


class ChildAndProcess(RuleBasedStateMachine):
    """Anything that can happen to a child, with a model of its process; only the clock of the model moves.

    The model knows whether the plan wants the child, whether its process lives, what was done to the process, and how
    often the child has failed. It never reads this from the child.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.child = Child()
        self.wanted = False
        self.failures = 0
        self.faults = 0
        self.alive = False
        self.done: list[tuple[float, Action]] = []
        self.greeted = False
        self.replanned = False
        self.caught_up_since: float | None = None

    def state(self) -> State:
        """Return the state that the child is in now."""
        return self.child.state

    def tell(self, event: Event) -> list[Action]:
        """Let an event happen now and carry out what is to be done, which must be possible."""
        self.child, actions = step(self.child, event, self.now, TIMING)
        for action in actions:
            if action is Action.SPAWN:
                assert not self.alive, "a successor starts before its predecessor is gone"
                assert self.wanted, "a child is started that nobody wants"
                self.alive, self.done, self.greeted, self.replanned = True, [], False, False
                self.caught_up_since = None
            else:
                assert self.alive, "something is done to a process that is gone"
                self.done.append((self.now, action))
        return list(actions)

    def until_due(self, end: float) -> bool:
        """Go to the next deadline, if there is one before `end`."""
        if self.child.deadline is None or self.child.deadline > end:
            self.now = end
            return False
        self.now = max(self.now, self.child.deadline)
        self.tell(Due())
        return True

    @rule()
    def the_plan_wants_it(self) -> None:
        """It is started at once, unless it is there or waits for its restart."""
        self.wanted = True
        nothing_to_do = self.alive or self.child.state is State.BACKOFF
        assert self.tell(Wanted()) == ([] if nothing_to_do else [Action.SPAWN])

    @rule(reason=st.sampled_from([Reason.UNPLANNED, Reason.SHUTDOWN]))
    def the_plan_drops_it(self, reason: Reason) -> None:
        """A process that is there is asked to stop, if nothing stronger was done to it before."""
        self.wanted = False
        self.replanned = self.alive
        self.tell(Unwanted(reason))
        assert self.done or not self.alive, "nobody asked the process to stop"

    @rule()
    def somebody_orders_a_restart(self) -> None:
        """A process that runs is asked to stop, and one that is waited for is started."""
        before = self.child.state
        actions = self.tell(Ordered())
        if before in (State.STARTING, State.RUNNING, State.BACKOFF):
            assert actions == [Action.SPAWN if before is State.BACKOFF else Action.ASK]
            self.failures = self.faults = 0
            self.replanned = self.alive and before is not State.BACKOFF
        else:
            assert actions == []

    @precondition(lambda self: self.alive and not self.greeted)
    @rule()
    def its_process_greets(self) -> None:
        """The first message of a process, which can also come while it is being stopped."""
        self.greeted = True
        self.tell(Greeted())

    @precondition(lambda self: self.alive and self.greeted)
    @rule(caught_up=st.booleans())
    def its_process_beats(self, *, caught_up: bool) -> None:
        """A round is a sign of life and perhaps of recovery, but not from a process that is being stopped."""
        before = self.child.deadline
        self.tell(Progressed(caught_up))
        if self.done:
            assert self.child.deadline == before, "a beat puts off the end of a process that is being stopped"
            return
        assert self.child.deadline == self.now + TIMING.silence_seconds
        if not caught_up:
            self.caught_up_since = None
        elif self.caught_up_since is None:
            self.caught_up_since = self.now
        elif self.now - self.caught_up_since >= TIMING.recovery_seconds:
            self.failures = self.faults = 0

    @precondition(lambda self: not self.alive)
    @rule(message=st.sampled_from([Greeted(), Awoke(), Progressed(caught_up=True), Progressed(caught_up=False)]))
    def something_stale_arrives(self, message: Event) -> None:
        """A message of a process that has ended means nothing any more."""
        before = self.child
        assert self.tell(message) == []
        assert self.child == before

    @precondition(lambda self: self.child.deadline is None or self.child.deadline > self.now)
    @rule()
    def the_clock_is_looked_at_too_early(self) -> None:
        """Before the deadline, or without one, nothing is due."""
        before = self.child
        assert self.tell(Due()) == []
        assert self.child == before

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.floats(5.0, 120.0)))
    def time_passes(self, seconds: float) -> None:
        """Every deadline on the way is kept."""
        end = self.now + seconds
        while self.until_due(end):
            pass

    @precondition(lambda self: self.alive)
    @rule(code=st.sampled_from([0, 1, 75, -6, -9]), chance=CHANCES)
    def its_process_ends(self, code: int, chance: float) -> None:
        """The history decides what follows: nothing, another process at once, or one after a back-off."""
        self.alive = False
        replanned, stopped = self.replanned, bool(self.done)
        self.tell(Exited(code, chance))
        if not self.wanted:
            assert self.child.state is State.STOPPED
        elif replanned:
            assert self.alive, "a child that is wanted again waits though it did not fail"
        else:
            asked_for = code == 75 and not stopped
            self.failures += 1
            self.faults += not asked_for
            assert not self.alive
            assert self.child.deadline is not None
            pauses = TIMING.again if asked_for else TIMING.backoff
            bound = min(pauses.max_seconds, pauses.initial_seconds * 2 ** (self.failures - 1))
            assert 0.0 <= self.child.deadline - self.now <= bound + 1e-9

    @invariant()
    def states_tell_what_is_true(self) -> None:
        """Whether there is a process, it is wanted, has failed: the child says what the model knows."""
        assert self.alive == (self.child.state in (State.STARTING, State.RUNNING, State.STOPPING))
        assert self.child.wanted == self.wanted
        assert (self.child.failures, self.child.faults) == (self.failures, self.faults)

    @invariant()
    def a_wanted_child_never_waits_for_nothing(self) -> None:
        """As long as it is wanted, there is a moment at which something will be done."""
        if self.wanted:
            assert self.child.state is not State.STOPPED
            assert self.child.deadline is not None

    @invariant()
    def measures_escalate(self) -> None:
        """First it is asked, then aborted, then killed, each after the time it has for the one before."""
        ranks = [ESCALATION.index(action) for _, action in self.done]
        assert ranks == sorted(ranks)
        assert ranks.count(0) <= 1
        assert ranks.count(1) <= 1
        assert 2 not in ranks or 1 in ranks, "killed without the chance to write a traceback"
        patience = {Action.ASK: TIMING.stop_seconds, Action.ABORT: TIMING.abort_seconds, Action.KILL: 0.0}
        for (earlier, action), (later, _) in pairwise(self.done):
            assert later - earlier >= patience[action] - 1e-9

    def teardown(self) -> None:
        """In the end a wanted child runs and an unwanted one is gone, though its process ignores all but SIGKILL."""
        end = self.now + MAX_STOP_SECONDS + 2 * TIMING.backoff.max_seconds
        while not self.settled() and self.until_due(end):
            if self.alive and self.done and self.done[-1][1] is Action.KILL:
                self.its_process_ends(code=-9, chance=0.999)
        assert self.settled()
        if not self.wanted:
            assert not self.until_due(self.now + 86_400.0)

    def settled(self) -> bool:
        """Say whether what the plan wants is so."""
        if not self.wanted:
            return not self.alive
        return self.alive and not self.done


TestChildAndProcess = ChildAndProcess.TestCase
TestChildAndProcess.settings = settings(max_examples=examples(100), stateful_step_count=40)
