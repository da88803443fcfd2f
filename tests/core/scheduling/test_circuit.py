import itertools
from collections.abc import Iterator

import pytest

from peruserd.core.scheduling.circuit import (
    Action,
    Blame,
    Circuit,
    Event,
    Failed,
    Hold,
    Phase,
    ProbeAnswered,
    ProbeBegan,
    Resume,
    TrialServed,
    Try,
    step,
)

WHY = "no majority answers"
AWAY = ProbeAnswered(WHY)
THERE = ProbeAnswered(None)


class Run:
    """A circuit to which things happen, and what it wanted done."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.now = 1000.0
        self.actions: list[Action] = []

    def happen(self, *events: Event, after: float = 0.0) -> list[Action]:
        """Let so much time pass and then let these events come; return what is to be done."""
        self.now += after
        done: list[Action] = []
        for event in events:
            self.circuit, actions = step(self.circuit, event, self.now)
            done += actions
        self.actions += done
        return done

    def phase(self) -> Phase:
        """Return the phase that it is in now."""
        return self.circuit.phase

    def probe(self, answer: ProbeAnswered, took: float = 0.0) -> list[Action]:
        """Wait until the probe is due, make it, and give the answer."""
        assert self.circuit.probe_at is not None
        self.now = max(self.now, self.circuit.probe_at)
        self.happen(ProbeBegan())
        return self.happen(answer, after=took)


@pytest.fixture
def run() -> Run:
    """A circuit at its beginning."""
    return Run()


def test_one_failure_is_enough_to_ask_and_not_enough_to_hold(run: Run) -> None:
    """The probe is due at once, and work is given out until it has answered."""
    assert run.happen(Failed()) == []
    assert (run.circuit.phase, run.circuit.probe_at) == (Phase.SUSPECTED, run.now)
    assert not run.circuit.on_hold


def test_who_fails_while_the_cluster_serves_has_failed_alone(run: Run) -> None:
    """The answer speaks for those who failed before the probe began."""
    run.happen(Failed())
    began = run.now = run.now + 0.5
    assert run.probe(THERE, took=0.1) == [Blame(began)]
    assert (run.circuit.phase, run.circuit.probe_at) == (Phase.SERVING, None)


def test_who_fails_during_a_probe_waits_for_the_next(run: Run) -> None:
    """The cluster can have failed since, so an older answer proves nothing."""
    run.happen(Failed())
    run.happen(ProbeBegan())
    began = run.now
    run.happen(Failed(), after=0.2)
    assert run.happen(THERE) == [Blame(began)]
    assert (run.circuit.phase, run.circuit.probe_at) == (Phase.SUSPECTED, began + 1.0)
    assert run.probe(AWAY) == [Hold(WHY)]


def test_a_probe_that_fails_puts_all_on_hold_once(run: Run) -> None:
    """One action for the whole hold, however many fail and however often the probe does."""
    run.happen(Failed(), Failed(), Failed())
    run.probe(AWAY)
    run.happen(Failed())
    run.probe(AWAY)
    run.probe(AWAY)
    assert run.actions == [Hold(WHY)]
    assert run.circuit.on_hold


def test_a_probe_that_succeeds_lets_all_go_on_at_once(run: Run) -> None:
    """The hold ends with the first probe that succeeds, and nobody is to blame for what the cluster did."""
    run.happen(Failed())
    run.probe(AWAY)
    began = run.now
    run.probe(AWAY)
    assert run.probe(THERE) == [Resume(run.now - began)]
    assert (run.circuit.phase, run.circuit.probe_at, run.circuit.why) == (Phase.SERVING, None, "")


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_on_hold_the_probe_is_repeated_every_second_or_so(run: Run, chance: float) -> None:
    """With a jitter, because many listeners begin to probe at the same moment."""
    run.happen(Failed(), ProbeBegan(), ProbeAnswered(WHY, chance))
    for _ in range(3):
        assert run.circuit.probe_at is not None
        assert 0.75 <= run.circuit.probe_at - run.now < 1.25
        run.probe(ProbeAnswered(WHY, chance))


def test_an_enemy_who_fails_all_the_time_costs_one_probe_a_second(run: Run) -> None:
    """A hundred failures in ten seconds are ten probes, and never a hold."""
    probes = 0
    for _ in range(100):
        run.happen(Failed(), after=0.1)
        if run.circuit.probe_at is not None and run.circuit.probe_at <= run.now:
            run.happen(ProbeBegan(), THERE)
            probes += 1
    assert probes in (10, 11)
    assert not any(isinstance(each, Hold) for each in run.actions)


def until_tried(run: Run, times: int = 1) -> None:
    """Let the probe fail until users have tried so many times."""
    while sum(isinstance(each, Try) for each in run.actions) < times:
        run.probe(AWAY)


def test_now_and_then_users_try_on_hold(run: Run) -> None:
    """The probe may be wrong, so a user who is served ends the hold."""
    run.happen(Failed())
    run.probe(AWAY)
    until_tried(run)
    assert 5.0 <= run.now - run.circuit.since < 7.0
    assert run.happen(TrialServed()) == [Resume(run.now - run.circuit.since)]


def test_no_trial_waits_for_the_end_of_another(run: Run) -> None:
    """An enemy whose database hangs keeps nobody from trying, and more try each time, up to a bound."""
    run.happen(Failed())
    run.probe(AWAY)
    until_tried(run, 6)
    assert [each.users for each in run.actions if isinstance(each, Try)] == [1, 2, 4, 8, 8, 8]
    assert 30.0 <= run.now - run.circuit.since < 40.0


def disprove(run: Run) -> None:
    """Let a wrong hold begin, and let a served user end it."""
    run.happen(Failed())
    run.probe(AWAY)
    if not run.circuit.on_hold:
        run.probe(AWAY)
    until_tried(run, sum(isinstance(each, Try) for each in run.actions) + (not isinstance(run.actions[-1], Try)))
    assert isinstance(run.happen(TrialServed())[0], Resume)


def test_a_probe_that_was_wrong_holds_up_nobody_for_a_while(run: Run) -> None:
    """The hosts of a probe can be lost for good while users are served. A failure is the user's own then."""
    disprove(run)
    assert not run.circuit.sets_aside(run.now)
    assert run.probe(AWAY) == []
    run.happen(Failed(), after=run.circuit.disbelieved_until - run.now - 1.5)
    assert run.probe(AWAY) == []
    assert run.circuit.phase is Phase.SERVING
    run.happen(Failed(), after=1.5)
    assert run.phase() is Phase.SUSPECTED


def test_a_probe_that_is_wrong_again_and_again_is_disbelieved_longer(run: Run) -> None:
    """Up to two minutes: if the cluster does fail meanwhile, each user comes into quarantine by himself."""
    times = []
    for _ in range(6):
        disprove(run)
        times.append(run.circuit.disbelieved_until - run.now)
        run.probe(AWAY)
        run.now = run.circuit.disbelieved_until
    assert times == pytest.approx([10.0, 20.0, 40.0, 80.0, 120.0, 120.0])


def test_a_probe_that_succeeds_is_believed_again(run: Run) -> None:
    """The cluster came back in the moment in which somebody tried: its next failure holds all up again."""
    disprove(run)
    assert run.circuit.probe_at is not None
    assert run.circuit.probe_at - run.now <= 1.0
    run.probe(THERE)
    assert run.circuit.sets_aside(run.now)
    run.happen(Failed(), after=0.1)
    assert run.probe(AWAY) == [Hold(WHY)]
    assert (run.circuit.disproved, run.circuit.on_hold) == (0, True)


def test_after_a_wrong_hold_somebody_tries_as_soon_as_the_next_one_begins(run: Run) -> None:
    """While the probe is wrong, an enemy who fails on purpose delays others only until that trial."""
    disprove(run)
    run.probe(AWAY)
    run.now = run.circuit.disbelieved_until
    run.happen(Failed())
    assert run.probe(AWAY) == [Hold(WHY), Try(1)]


def test_an_answer_that_comes_after_a_trial_was_served_changes_nothing(run: Run) -> None:
    """The probe was under way when the hold ended."""
    run.happen(Failed())
    run.probe(AWAY)
    until_tried(run)
    assert run.circuit.probe_at is not None
    run.now = run.circuit.probe_at
    run.happen(ProbeBegan(), TrialServed())
    assert run.happen(AWAY) == []
    assert run.circuit.phase is Phase.SERVING


def _next(run: tuple[Circuit, float], trying: bool) -> Iterator[tuple[Event, float]]:  # noqa: FBT001 - what can be
    """The possible next events and their times. A probe begins only when it is due, and is answered only after that."""
    circuit, now = run
    yield Failed(), now + 0.3
    if circuit.probe_at is not None:
        yield ProbeBegan(), max(now, circuit.probe_at)
    if circuit.probing_since is not None:
        yield AWAY, now + 0.3
        yield AWAY, now + 6.0
        yield THERE, now + 0.3
    if trying:
        yield TrialServed(), now + 0.3


def test_whatever_happens_the_rules_hold() -> None:
    """All histories of nine events: each is checked against what was promised."""
    seen = 0

    def explore(circuit: Circuit, now: float, *, trying: bool, left: int, probes: tuple[float, ...]) -> None:
        nonlocal seen
        seen += 1
        asks = circuit.probe_at is not None or circuit.probing_since is not None
        assert asks or circuit.phase is Phase.SERVING, "nobody asks any more whether the cluster serves"
        assert not (circuit.probe_at is not None and circuit.probing_since is not None), "two probes at once"
        if not left:
            return
        for event, then in _next((circuit, now), trying):
            after, actions = step(circuit, event, then)
            began = circuit.probing_since
            for action in actions:
                match action:
                    case Blame(before):
                        assert isinstance(event, ProbeAnswered)
                        assert event.why is None
                        assert before == began, "blamed by a probe that began before the failure"
                    case Hold():
                        assert event == AWAY
                        assert circuit.phase is Phase.SUSPECTED
                    case Resume():
                        assert circuit.on_hold
                        assert not after.on_hold
                        assert event in (THERE, TrialServed())
                    case Try(users):
                        assert after.on_hold
                        assert 1 <= users <= 8
            if event == THERE and circuit.probing_since is not None:
                assert not after.on_hold, "a probe that succeeds is enough to go on"
            assert after.on_hold == circuit.on_hold or any(isinstance(each, Hold | Resume) for each in actions)
            made = (*probes, then) if event == ProbeBegan() else probes
            assert all(later - earlier >= 0.75 for earlier, later in itertools.pairwise(made))
            tries = (trying or any(isinstance(each, Try) for each in actions)) and after.on_hold
            explore(after, then, trying=tries, left=left - 1, probes=made)

    explore(Circuit(), 0.0, trying=False, left=9, probes=())
    assert seen > 1_000
