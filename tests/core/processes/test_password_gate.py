import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peruserd.core.processes.password_gate import MAX_REFUSALS, WINDOW_SECONDS, Gate, Verdict
from tests.quick import examples

TIMES = st.floats(-1e9, 4e9)


def _tried(gate: Gate, verdict: Verdict, now: float) -> Gate:
    return gate.ask(now).answered(verdict, now)


def test_a_gate_that_knows_of_nothing_is_open() -> None:
    """The first password may be sent at once."""
    assert Gate().pause(1_000.0) == 0.0


def test_an_accepted_password_leaves_the_gate_open() -> None:
    """Nothing counts, however often the right password is sent."""
    gate = Gate()
    for now in range(1_000, 1_020):
        assert gate.pause(now) == 0.0
        gate = _tried(gate, Verdict.ACCEPTED, now)
    assert gate.refusals == ()


def test_a_refused_password_is_asked_again_after_pauses_that_grow() -> None:
    """The first pause is short, because a new password is not accepted at once. The last is five minutes long."""
    gate, now, pauses = Gate(), 1_000.0, []
    for _ in range(8):
        gate = _tried(gate, Verdict.REFUSED, now)
        pauses.append(gate.pause(now))
        now += pauses[-1]
        gate = gate.recall(gate.refusals, now)
    assert pauses == [5.0, WINDOW_SECONDS - 5.0, *[300.0] * 6]


def test_another_password_than_the_refused_one_is_asked_at_once() -> None:
    """A try is left for it, also when the refused one has had all of its own."""
    gate = _tried(Gate(), Verdict.REFUSED, 1_000.0)
    gate = _tried(gate, Verdict.REFUSED, 1_005.0)
    assert gate.pause(1_010.0) > 290.0
    assert gate.renew().pause(1_010.0) == 0.0


def test_no_more_than_four_passwords_are_refused_within_a_window() -> None:
    """This holds for different passwords as well. The fifth waits until the first does not count any more."""
    gate = Gate()
    for now in (1_000.0, 1_001.0, 1_002.0, 1_002.5):
        assert gate.pause(now) == 0.0
        gate = _tried(gate, Verdict.REFUSED, now).renew()
    assert gate.pause(1_003.0) == pytest.approx(WINDOW_SECONDS - 3)
    assert gate.pause(1_000.0 + WINDOW_SECONDS) == 0.0


def test_an_accepted_password_does_not_make_refusals_undone() -> None:
    """CouchDB goes on counting them, so they count here."""
    gate = Gate()
    for now in (1_000.0, 1_001.0, 1_001.5):
        gate = _tried(gate, Verdict.REFUSED, now).renew()
    gate = _tried(gate, Verdict.ACCEPTED, 1_002.0)
    assert gate.refusals == (1_000.0, 1_001.0, 1_001.5)
    assert _tried(gate, Verdict.REFUSED, 1_003.0).renew().pause(1_004.0) > 290


def test_a_lock_is_looked_at_now_and_then_and_counts_for_nothing() -> None:
    """Nobody looked at the password, so it is no refusal of it."""
    gate = Gate()
    pauses = []
    for _ in range(4):
        gate = _tried(gate, Verdict.LOCKED, 1_000.0)
        pauses.append(gate.pause(1_000.0))
    assert pauses == [15.0, 30.0, 60.0, 60.0]
    assert gate.refusals == ()


@pytest.mark.parametrize(("verdict", "counts"), [(Verdict.UNSENT, 0), (Verdict.UNJUDGED, 0), (Verdict.UNANSWERED, 1)])
def test_a_password_whose_answer_is_lost_counts_and_one_that_was_not_sent_does_not(
    verdict: Verdict, counts: int
) -> None:
    """Both are tried again after a short pause."""
    gate = _tried(Gate(), verdict, 1_000.0)
    assert len(gate.refusals) == counts
    assert gate.pause(1_000.0) == 1.0


def test_a_server_that_was_away_for_long_is_logged_in_to_within_two_seconds() -> None:
    """Users wait for the login at its return, and a request without the password costs the server nothing."""
    gate, now = Gate(), 1_000.0
    for _ in range(500):
        gate = _tried(gate, Verdict.UNSENT, now)
        assert 1.0 <= gate.pause(now) <= 2.0
        now += gate.pause(now)
    assert _tried(gate, Verdict.UNJUDGED, now).pause(now) == 1.0


def test_a_server_that_is_away_does_not_shorten_the_pause_after_a_refusal() -> None:
    """The password is still the refused one."""
    gate = _tried(_tried(Gate(), Verdict.REFUSED, 1_000.0), Verdict.UNSENT, 1_001.0)
    assert gate.pause(1_001.0) == 5.0


def test_a_process_that_ends_while_it_asks_has_been_refused() -> None:
    """The refusal that is on disk then counts for the next process."""
    left = Gate().ask(1_000.0).refusals
    assert Gate().recall(left, 1_001.0).refusals == (1_000.0,)


@example(refusals=[684.8947831301392] * 4, now=684.8947831301392, later=0.0)
@given(refusals=st.lists(TIMES, max_size=20), now=TIMES, later=st.floats(0.0, 1e6))
def test_whatever_is_on_disk_the_gate_opens_within_a_window(refusals: list[float], now: float, later: float) -> None:
    """Also where clocks were set, or the file says nonsense: no time to come holds it shut for longer."""
    gate = Gate().recall(refusals, now)
    assert list(gate.refusals) == sorted(gate.refusals)
    assert len(gate.refusals) <= MAX_REFUSALS
    assert gate.pause(now) <= WINDOW_SECONDS
    assert gate.recall(gate.refusals, now + WINDOW_SECONDS + later).pause(now + WINDOW_SECONDS + later) == 0.0


class _Process(msgspec.Struct):
    password: int
    gate: Gate = Gate()
    asking_since: float | None = None


class GateModel(RuleBasedStateMachine):
    """Processes with a shared record, a server that counts and locks, and an operator who changes passwords.

    The server may count at any moment during a request, and processes may end in the middle of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 10_000.0
        self.record: tuple[float, ...] = ()
        self.password = 0
        self.processes = [_Process(0), _Process(0)]
        self.counted: list[float] = []

    @rule(seconds=st.one_of(st.floats(0.0, 5.0), st.floats(0.0, 400.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass; an answer is there within its own."""
        asking = [each.asking_since for each in self.processes if each.asking_since is not None]
        self.now = min([self.now + seconds, *(each + 39.0 for each in asking)])

    @rule(to=st.integers(0, 3))
    def change_on_the_server(self, to: int) -> None:
        """Change the password."""
        self.password = to

    @rule(index=st.integers(0, 1), to=st.integers(0, 3))
    def change_of_a_process(self, index: int, to: int) -> None:
        """Let a process read another password."""
        process = self.processes[index]
        if process.asking_since is None and to != process.password:
            process.password = to
            process.gate = process.gate.renew()

    @precondition(lambda self: all(each.asking_since is None for each in self.processes))
    @rule(index=st.integers(0, 1))
    def ask(self, index: int) -> None:
        """Send the password, if the gate says so. The lock on the record lets one ask at a time."""
        process = self.processes[index]
        process.gate = process.gate.recall(self.record, self.now)
        if process.gate.pause(self.now) == 0.0:
            process.gate = process.gate.ask(self.now)
            self.record = process.gate.refusals
            process.asking_since = self.now

    @rule(loses_answer=st.booleans(), index=st.integers(0, 1))
    def answer(self, index: int, *, loses_answer: bool) -> None:
        """Let the server look at the password, and the answer come or be lost."""
        process = self.processes[index]
        if process.asking_since is None:
            return
        right = process.password == self.password
        if not right:
            self.counted.append(self.now)
        verdict = Verdict.UNANSWERED if loses_answer else Verdict.ACCEPTED if right else Verdict.REFUSED
        process.gate = process.gate.answered(verdict, self.now)
        self.record = process.gate.refusals
        process.asking_since = None

    @rule(index=st.integers(0, 1), counts=st.booleans())
    def end(self, index: int, *, counts: bool) -> None:
        """End a process, perhaps in the middle of asking; another one begins and knows only what is on disk."""
        process = self.processes[index]
        if process.asking_since is not None and counts and process.password != self.password:
            self.counted.append(self.now)
        self.processes[index] = _Process(process.password)

    @invariant()
    def never_more_than_four_in_five_minutes(self) -> None:
        """The server never counts as many as would make it lock the account."""
        for begin in self.counted:
            assert sum(begin <= each < begin + 300.0 for each in self.counted) <= MAX_REFUSALS


TestGateModel = GateModel.TestCase
TestGateModel.settings = settings(max_examples=examples(120), stateful_step_count=60, deadline=None)
