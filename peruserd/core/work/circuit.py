"""Whether the cluster serves anybody at all: a circuit breaker for the work of one listener.

A failure of the cluster is not a failure of users. A user who fails for a reason that can be the cluster's is set aside
in memory, until a probe that began after the failure has answered. The probe asks for what no user's own code can
answer. There are three states:

- SERVING: work is given out.
- SUSPECTED: somebody failed. Work is given out; those who failed wait for the probe, due once a second at most.
- ON HOLD: the probe has failed as well. No work is given out but a few trials now and then, and the probe is repeated.

So nobody comes into quarantine for what the cluster did, and an enemy whose database fails on purpose costs one probe a
second and holds up nobody. A probe that succeeds ends a hold, whatever users' databases answer.

The trials are there because a probe can be wrong: the nodes that it asks can be lost for good while others serve. A
user who was served by a majority of the nodes ends the hold, and what fails says nothing: users can fail on purpose.
So the trials do not wait for each other, and go on with more users from time to time.

A probe that was proved wrong is asked again at once. While it says the same, it is disbelieved for a while, which is
longer each time, and those who fail meanwhile have failed alone. A probe that succeeds is believed again. The longest
such time is short, because everybody comes into quarantine by himself if the cluster fails in it. A probe that is wrong
costs little in exchange: after the first time somebody tries as soon as the hold begins.

Pure: `step` takes a state, an event and the time, by the caller's monotonic clock in seconds, and returns the next
state with what is to be done.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

replace = msgspec.structs.replace

_PROBE_SECONDS: Final = 1.0
"""Between the beginnings of two probes at least: a handful of small reads, so one listener's are no load."""

# Between two probes on hold: a second or so, with a jitter that keeps listeners from probing together.
_PAUSE_SECONDS: Final = 0.75
_JITTER_SECONDS: Final = 0.5

# On hold a wrong probe delays everybody by this time, and each trial costs some requests.
_TRIAL_SECONDS: Final = 5.0

# One user tries first, and more each time: some hundred enemies before the first honest user take a minute then.
_MAX_TRIALS: Final = 8

# After a user was served although the probe fails, the probe is believed wrong for so long, by how often that was so.
_DISBELIEF: Final = Backoff(initial_seconds=10.0, max_seconds=120.0)


class Phase(StrEnum):
    """The belief about the cluster."""

    SERVING = "serving"
    SUSPECTED = "suspected"
    ON_HOLD = "on hold"


class Circuit(msgspec.Struct, frozen=True):
    """The beliefs of a listener.

    - `probe_at`: when the next probe is due; None while none is wanted, or one is under way since `probing_since`.
    - `probed_at`: when the newest probe began. `suspected_at`: when somebody failed last.
    - `since`: when the hold began. `why`: what the probe has found then.
    - `trial_at`: on hold, when users may try next. `trials`: how many of them.
    - `disbelieved_until`: the probe was wrong, and holds up nobody before that. `disproved`: how often in a row.
    """

    phase: Phase = Phase.SERVING
    probe_at: float | None = None
    probing_since: float | None = None
    probed_at: float = float("-inf")
    suspected_at: float = float("-inf")
    since: float = 0.0
    why: str = ""
    trial_at: float = 0.0
    trials: int = 1
    disbelieved_until: float = float("-inf")
    disproved: int = 0

    def sets_aside(self, now: float) -> bool:
        """Say whether one who fails now, for a reason that can be the cluster's, waits for the probe."""
        return now >= self.disbelieved_until

    @property
    def on_hold(self) -> bool:
        """Say whether no work is given out."""
        return self.phase is Phase.ON_HOLD


class Failed(msgspec.Struct, frozen=True):
    """A user failed for a reason that can be the cluster's."""


class ProbeBegan(msgspec.Struct, frozen=True):
    """The probe that was due is under way."""


class ProbeAnswered(msgspec.Struct, frozen=True):
    """The probe has ended: `why` says what keeps the cluster from serving, None where nothing does.

    `chance`, a random number of [0, 1), spreads the probes.
    """

    why: str | None
    chance: float = 0.0


class TrialServed(msgspec.Struct, frozen=True):
    """A user who tried on hold was served: a majority has taken a write."""


Event = Failed | ProbeBegan | ProbeAnswered | TrialServed


class Blame(msgspec.Struct, frozen=True):
    """Users who failed before then and were set aside have failed alone: the cluster serves."""

    before: float


class Hold(msgspec.Struct, frozen=True):
    """Give out no work from now on; users who were set aside wait with all others."""

    why: str


class Resume(msgspec.Struct, frozen=True):
    """Give out work again, to all who waited, the newest first; `seconds` is how long the hold was."""

    seconds: float


class Try(msgspec.Struct, frozen=True):
    """Let so many users try, none of whom has tried before if there are others."""

    users: int


Action = Blame | Hold | Resume | Try
Step = tuple[Circuit, tuple[Action, ...]]

_JITTERED: Final = Backoff(_JITTER_SECONDS, _JITTER_SECONDS)


def step(circuit: Circuit, event: Event, now: float) -> Step:
    """Return what is believed after an event, and what is to be done."""
    match event:
        case Failed():
            return _failed(circuit, now), ()
        case ProbeBegan():
            return replace(circuit, probe_at=None, probing_since=now, probed_at=now), ()
        case ProbeAnswered(why, chance):
            return _answered(circuit, why, chance, now)
        case TrialServed():
            return _disproved(circuit, now)


def _failed(circuit: Circuit, now: float) -> Circuit:
    if circuit.on_hold:
        return circuit
    if circuit.sets_aside(now):
        circuit = replace(circuit, phase=Phase.SUSPECTED, suspected_at=now)
    return _asking(circuit, now)


def _asking(circuit: Circuit, now: float) -> Circuit:
    """Let a probe be due, unless one is or is under way."""
    if circuit.probe_at is not None or circuit.probing_since is not None:
        return circuit
    return replace(circuit, probe_at=max(now, circuit.probed_at + _PROBE_SECONDS))


def _answered(circuit: Circuit, why: str | None, chance: float, now: float) -> Step:
    began = circuit.probing_since
    if began is None:
        # An answer to no question, such as one that was given up.
        return circuit, ()
    circuit = replace(circuit, probing_since=None)
    if why is None:
        circuit = replace(circuit, disproved=0, disbelieved_until=float("-inf"))
        return _resumed(circuit, now) if circuit.on_hold else _cleared(circuit, began)
    if circuit.phase is Phase.SERVING:
        return circuit, ()
    actions: tuple[Action, ...] = ()
    if not circuit.on_hold:
        trial_at = now if circuit.disproved else now + _TRIAL_SECONDS
        circuit = replace(circuit, phase=Phase.ON_HOLD, since=now, trial_at=trial_at, trials=1)
        actions = (Hold(why),)
    if now >= circuit.trial_at:
        actions = (*actions, Try(circuit.trials))
        trials = min(2 * circuit.trials, _MAX_TRIALS)
        circuit = replace(circuit, trial_at=now + _TRIAL_SECONDS, trials=trials)
    pause = _PAUSE_SECONDS + _JITTERED.delay(1, chance)
    return replace(circuit, why=why, probe_at=now + pause), actions


def _cleared(circuit: Circuit, began: float) -> Step:
    """The cluster serves: who failed before the probe began has failed alone, and the others wait for the next one."""
    if circuit.suspected_at >= began:
        return replace(circuit, probe_at=began + _PROBE_SECONDS), (Blame(began),)
    return replace(circuit, phase=Phase.SERVING), (Blame(began),)


def _resumed(circuit: Circuit, now: float) -> Step:
    seconds = now - circuit.since
    return replace(circuit, phase=Phase.SERVING, why="", probe_at=None), (Resume(seconds),)


def _disproved(circuit: Circuit, now: float) -> Step:
    if not circuit.on_hold:
        return circuit, ()
    disproved = circuit.disproved + 1
    circuit, actions = _resumed(circuit, now)
    circuit = replace(circuit, disproved=disproved, disbelieved_until=now + _DISBELIEF.bound(disproved))
    # The cluster may have come back in this moment: then the probe is right, and says so.
    return _asking(circuit, now), actions
