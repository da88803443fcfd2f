"""Whether the cluster serves anybody at all: a circuit breaker for the work of one listener.

A failure of the cluster is not a failure of users. A user who fails for a reason that can be the cluster's is set aside
in memory, until a probe that began after the failure has answered. The probe asks for what no user's own code can
answer. There are three states:

- SERVING: work is given out.
- SUSPECTED: somebody failed. Work is given out; those who failed wait for the probe, due once a second at most.
- ON HOLD: the probe has failed as well. No work is given out but one trial now and then, and the probe is repeated.

So nobody comes into quarantine for what the cluster did, and an enemy whose database fails on purpose costs one probe a
second and holds up nobody. The trial is there because a probe can be wrong: the nodes that it asks can be lost for good
while others serve. A trial that was served ends the hold, and the probe is not asked for a while after that.

Pure: `step` takes a state, an event and the time, by the caller's monotonic clock in seconds, and returns the next
state with what is to be done.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.backoff import Backoff

replace = msgspec.structs.replace

_PROBE_SECONDS: Final = 1.0
"""Between the beginnings of two probes at least: a handful of small reads, so one listener's are no load."""

# Between two probes on hold: a second or so, with a jitter that keeps listeners from probing together.
_PAUSE_SECONDS: Final = 0.75
_JITTER_SECONDS: Final = 0.5

# One user in five seconds tries on hold: a wrong probe delays everybody by that, and a trial costs some requests.
_TRIAL_SECONDS: Final = 5.0

# After a trial was served although the probe fails, the probe is believed wrong this long.
_DISBELIEF_SECONDS: Final = 600.0


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
    - `trial_at`: when one user may try next; None while one does.
    - `disbelieved_until`: the probe was wrong, and none is asked before that.
    """

    phase: Phase = Phase.SERVING
    probe_at: float | None = None
    probing_since: float | None = None
    probed_at: float = float("-inf")
    suspected_at: float = float("-inf")
    since: float = 0.0
    why: str = ""
    trial_at: float | None = None
    disbelieved_until: float = float("-inf")

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


class TrialEnded(msgspec.Struct, frozen=True):
    """The one user who tried on hold has ended; `served` says whether a majority has taken a write for it."""

    served: bool


Event = Failed | ProbeBegan | ProbeAnswered | TrialEnded


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
    """Let one user try."""


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
        case TrialEnded(served):
            return _tried(circuit, now, served=served)


def _failed(circuit: Circuit, now: float) -> Circuit:
    if circuit.on_hold or not circuit.sets_aside(now):
        return circuit
    circuit = replace(circuit, phase=Phase.SUSPECTED, suspected_at=now)
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
        return _resumed(circuit, now) if circuit.on_hold else _cleared(circuit, began)
    if circuit.phase is Phase.SERVING:
        return circuit, ()
    actions: tuple[Action, ...] = ()
    if not circuit.on_hold:
        circuit = replace(circuit, phase=Phase.ON_HOLD, since=now, trial_at=now + _TRIAL_SECONDS)
        actions = (Hold(why),)
    elif circuit.trial_at is not None and now >= circuit.trial_at:
        circuit = replace(circuit, trial_at=None)
        actions = (Try(),)
    pause = _PAUSE_SECONDS + _JITTERED.delay(1, chance)
    return replace(circuit, why=why, probe_at=now + pause), actions


def _cleared(circuit: Circuit, began: float) -> Step:
    """The cluster serves: who failed before the probe began has failed alone, and the others wait for the next one."""
    if circuit.suspected_at >= began:
        return replace(circuit, probe_at=began + _PROBE_SECONDS), (Blame(began),)
    return replace(circuit, phase=Phase.SERVING), (Blame(began),)


def _resumed(circuit: Circuit, now: float) -> Step:
    seconds = now - circuit.since
    return replace(circuit, phase=Phase.SERVING, why="", probe_at=None, trial_at=None), (Resume(seconds),)


def _tried(circuit: Circuit, now: float, *, served: bool) -> Step:
    if not circuit.on_hold:
        return circuit, ()
    if not served:
        return replace(circuit, trial_at=now + _TRIAL_SECONDS), ()
    return _resumed(replace(circuit, disbelieved_until=now + _DISBELIEF_SECONDS), now)
