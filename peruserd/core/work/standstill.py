"""A listener on hold while the cluster serves nobody: who waits for it, and how all go on when it is back.

`core.work.circuit` decides; this carries out what it decides on the documents and their dispatch, without a disk or a
clock.
"""

import msgspec

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.counters import Counters
from peruserd.core.users.quarantine import Failure
from peruserd.core.work import circuit
from peruserd.core.work.circuit import Circuit
from peruserd.core.work.dispatch import Dispatch
from peruserd.core.work.documents import Documents


class Over(msgspec.Struct, frozen=True):
    """A hold that is over: how long it was, and how many users waited for its end."""

    seconds: float
    waited: int


class Standstill:
    """Not thread-safe: its owner has a lock. Times are of the caller's monotonic clock, in seconds.

    After each call, `begun` says why a hold has begun and `over` which one has ended, and so many as `to_wake` workers
    have something to do; `passed_on` says that these were seen to.
    """

    def __init__(self, documents: Documents, dispatch: Dispatch, counters: Counters) -> None:
        self._documents = documents
        self._trials = dispatch.trials
        self._counters = counters
        self.begun: str | None = None
        self.over: Over | None = None
        self.to_wake = 0
        self._circuit = Circuit()
        self._ended = False

    @property
    def on_hold(self) -> bool:
        """Say whether no work is given out."""
        return self._circuit.on_hold

    @property
    def why(self) -> str | None:
        """Say what keeps the cluster from serving; None while work is given out."""
        return self._circuit.why if self._circuit.on_hold else None

    @property
    def probe_at(self) -> float | None:
        """Return when a probe is due; None while none is wanted, or one is under way."""
        return None if self._ended else self._circuit.probe_at

    def set_aside(self, change: Change, failure: Failure, now: float, *, stays: bool) -> bool:
        """End work on a document that `stays` this instance's, if the cluster can be to blame; say whether it did."""
        can_be = failure.can_be_of_the_cluster and not self._ended
        if can_be:
            self._step(circuit.Failed(), now)
        # A review has nothing on disk either way, and has its own tries.
        aside = can_be and stays and change.lane is not Lane.REVIEW and self._circuit.sets_aside(now)
        if aside:
            self._documents.set_aside(change, failure, now, held=not self.on_hold)
            self._counters.failed(failure.kind)
        if not can_be and self._trials.include(change):
            self._trials.let_another_try()
        return aside

    def began(self, now: float) -> None:
        """Note that the probe that was due is under way."""
        self._step(circuit.ProbeBegan(), now)

    def answered(self, why: str | None, *, chance: float, now: float) -> tuple[circuit.Blame, ...]:
        """Note what keeps the cluster from serving, None where nothing does; return who is to blame."""
        actions = self._step(circuit.ProbeAnswered(why, chance), now)
        return tuple(each for each in actions if isinstance(each, circuit.Blame))

    def served(self, change: Change, now: float, *, by_a_majority: bool) -> None:
        """Note that work succeeded, and whether `by_a_majority`."""
        if not self._trials.include(change):
            return
        if by_a_majority:
            self._step(circuit.TrialServed(), now)
        else:
            self._trials.let_another_try()

    def end(self) -> None:
        """Hold up nothing any more, because the listener leaves: it does what can be done."""
        self._ended = True
        self._trials.go_on()

    def passed_on(self) -> None:
        """Note that `begun`, `over` and `to_wake` were seen to."""
        self.begun = self.over = None
        self.to_wake = 0

    def _step(self, event: circuit.Event, now: float) -> tuple[circuit.Action, ...]:
        self._circuit, actions = circuit.step(self._circuit, event, now)
        for action in actions:
            match action:
                case circuit.Hold(why):
                    self._hold(why)
                case circuit.Try(users):
                    self._trials.let_some_try(users)
                    self.to_wake += users
                case circuit.Resume(seconds):
                    self._resume(seconds, now)
        return actions

    def _hold(self, why: str) -> None:
        self._counters.holds += 1
        self.begun = why
        self._documents.none_blamed()
        self._documents.on_hold = True
        if not self._ended:
            self._trials.hold()

    def _resume(self, seconds: float, now: float) -> None:
        self._trials.go_on()
        self._documents.newest_first()
        retries, reviews = self._documents.recover(now)
        self._counters.retries += retries
        self._counters.reviews += reviews
        self.over = Over(seconds, self._documents.waiting)
        self.to_wake += self._documents.waiting + reviews
