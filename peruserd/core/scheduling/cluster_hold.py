"""The hold of a listener while the cluster serves nobody, and its end.

`core.scheduling.circuit` decides. This module carries out the decisions on the documents and their dispatch, without a
disk or a clock.
"""

import msgspec

from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.processes.counters import Counters
from peruserd.core.scheduling import circuit
from peruserd.core.scheduling.circuit import Circuit
from peruserd.core.scheduling.dispatch import Dispatch
from peruserd.core.scheduling.documents import Documents
from peruserd.core.users.quarantine import Failure


class Over(msgspec.Struct, frozen=True):
    """A hold that has ended: how long it was, and how many users waited for its end."""

    seconds: float
    waited: int


class ClusterHold:
    """The holds of one listener. Times are of the caller's monotonic clock, in seconds.

    Not thread-safe, because the owner has a lock. After each call the caller handles three results, and then calls
    `clear_results`:

    - `begun`: why a hold has begun, if one has.
    - `over`: the hold that has ended, if one has.
    - `to_wake`: how many workers have something to do.
    """

    def __init__(self, documents: Documents, dispatch: Dispatch, counters: Counters) -> None:
        self._documents = documents
        self._trials = dispatch.trials
        self._counters = counters
        self.begun: str | None = None
        self.over: Over | None = None
        self.to_wake = 0
        # The kind of the failure after which the cluster was asked.
        self._kind = ""
        self._circuit = Circuit()
        self._ended = False

    @property
    def on_hold(self) -> bool:
        """Say whether no work is given out."""
        return self._circuit.on_hold

    @property
    def why(self) -> str | None:
        """Return in words why the cluster cannot serve; None while work is given out."""
        return self._circuit.why if self._circuit.on_hold else None

    @property
    def kind(self) -> str | None:
        """Return the kind of the failure that the hold began with; None while work is given out."""
        return self._kind if self._circuit.on_hold else None

    @property
    def probe_at(self) -> float | None:
        """Return when a probe is due; None if no probe is wanted, or one is under way."""
        return None if self._ended else self._circuit.probe_at

    def set_aside(self, change: Change, failure: Failure, now: float, *, stays: bool) -> bool:
        """End failed work if the cluster may be the cause and the document `stays` here; say whether it did."""
        can_be = failure.can_be_of_the_cluster and not self._ended
        if can_be:
            if not self.on_hold:
                self._kind = failure.kind
            self._step(circuit.Failed(), now)
        # A review is never on disk, and has tries of its own.
        aside = can_be and stays and change.lane is not Lane.REVIEW and self._circuit.sets_aside(now)
        if aside:
            self._documents.set_aside(change, failure, now, parked=not self.on_hold)
            self._counters.failed(failure.kind)
        if not can_be and self._trials.is_trial(change):
            self._trials.let_another_try()
        return aside

    def began(self, now: float) -> None:
        """Note that the due probe has begun."""
        self._step(circuit.ProbeBegan(), now)

    def answered(self, why: str | None, *, chance: float, now: float) -> tuple[circuit.Blame, ...]:
        """Note the probe's answer: why the cluster cannot serve, None if it can. Return which users failed alone."""
        actions = self._step(circuit.ProbeAnswered(why, chance), now)
        return tuple(each for each in actions if isinstance(each, circuit.Blame))

    def served(self, change: Change, now: float, *, by_a_majority: bool) -> None:
        """Note that work succeeded, and whether a majority of the nodes has accepted a write."""
        if not self._trials.is_trial(change):
            return
        if by_a_majority:
            self._step(circuit.TrialServed(), now)
        else:
            self._trials.let_another_try()

    def end(self) -> None:
        """End every hold for good, because the listener leaves and does what can still be done."""
        self._ended = True
        self._trials.go_on()

    def clear_results(self) -> None:
        """Note that `begun`, `over` and `to_wake` were handled."""
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
        self._documents.free_set_aside()
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
