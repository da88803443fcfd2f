"""Whether the cluster serves anybody at all: a circuit breaker for the work of one listener.

A failure of the cluster is not a failure of users. The cluster may be the cause of a user's failure. Then the user is
set aside in memory until a probe has answered that began after the failure. The probe only asks for things that no
user's own code can answer. There are three states:

- SERVING: the listener gives out work.
- SUSPECTED: a user failed. The listener gives out work, and the failed users wait for the probe. Probes begin at most
  once a second.
- ON HOLD: the probe failed as well. The listener gives out no work except a few trials, and repeats the probe.

So a failure of the cluster puts nobody into quarantine. An enemy's database that fails on purpose costs one probe a
second and delays nobody. A successful probe ends a hold, whatever users' databases answer.

The trials exist because a probe can be wrong: its nodes can be lost for good while other nodes serve. If a majority of
the nodes served a user, the hold ends. A failed trial proves nothing, because users can fail on purpose. So the trials
do not wait for each other, and from time to time more users try.

A trial that was served proves the probe wrong. The probe is repeated at once:

- If it succeeds, probes are believed again.
- If it fails again, no failed probe is believed for some time, which is longer after each further proof. A user who
  fails in that time is blamed for the failure. The time is short, because a real failure of the cluster would put
  everybody into quarantine. A short time is cheap, because the next hold begins with a trial.

Pure: `step` takes a state, an event and the time, by the caller's monotonic clock in seconds. It returns the next state
and the actions to carry out.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.common.backoff import Backoff

replace = msgspec.structs.replace

_PROBE_SECONDS: Final = 1.0
"""The least time between the beginnings of two probes. A probe is a few small reads, so this is no load."""

# The pause between two probes on hold is about a second. The jitter keeps listeners from probing at the same time.
_PAUSE_SECONDS: Final = 0.75
_JITTER_SECONDS: Final = 0.5

# The time between two trials. A wrong probe delays everybody by this time, but each trial costs some requests.
_TRIAL_SECONDS: Final = 5.0

# One user tries first, and more each time. A hundred enemies ahead of the first honest user then cost a minute.
_MAX_TRIALS: Final = 8

# How long a probe is not believed after it was proved wrong, by how often that has happened in a row.
_DISBELIEF: Final = Backoff(initial_seconds=10.0, max_seconds=120.0)


class Phase(StrEnum):
    """The belief about the cluster."""

    SERVING = "serving"
    SUSPECTED = "suspected"
    ON_HOLD = "on hold"


class Circuit(msgspec.Struct, frozen=True):
    """The beliefs of a listener.

    - `probe_at`: when the next probe is due; None if no probe is wanted, or if one is under way since `probing_since`.
    - `probed_at`: when the newest probe began. `suspected_at`: when a user failed last.
    - `since`: when the hold began. `why`: the answer of the failed probe, in words.
    - `trial_at`: on hold, when users may try next. `trials`: how many of them.
    - `disbelieved_until`: failed probes are ignored until this time. `disproved`: how often in a row they were wrong.
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
        """Say whether a user who fails now, perhaps because of the cluster, waits for the probe."""
        return now >= self.disbelieved_until

    @property
    def on_hold(self) -> bool:
        """Say whether no work is given out."""
        return self.phase is Phase.ON_HOLD


class Failed(msgspec.Struct, frozen=True):
    """A user failed, and the cause may be the cluster."""


class ProbeBegan(msgspec.Struct, frozen=True):
    """The due probe has begun."""


class ProbeAnswered(msgspec.Struct, frozen=True):
    """The probe has ended. `why` says in words why the cluster cannot serve; None if it can.

    `chance`, a random number of [0, 1), spreads the probes.
    """

    why: str | None
    chance: float = 0.0


class TrialServed(msgspec.Struct, frozen=True):
    """A trial succeeded: a majority of the nodes has accepted a write."""


Event = Failed | ProbeBegan | ProbeAnswered | TrialServed


class Blame(msgspec.Struct, frozen=True):
    """The cluster serves: users who were set aside before this time are blamed for their failure."""

    before: float


class Hold(msgspec.Struct, frozen=True):
    """Give out no work from now on. Users who were set aside wait with all others."""

    why: str


class Resume(msgspec.Struct, frozen=True):
    """Give out work again to all waiting users, the newest first. `seconds` is how long the hold was."""

    seconds: float


class Try(msgspec.Struct, frozen=True):
    """Let this many users try. Users who have not tried yet come first."""

    users: int


Action = Blame | Hold | Resume | Try
Step = tuple[Circuit, tuple[Action, ...]]

_JITTERED: Final = Backoff(_JITTER_SECONDS, _JITTER_SECONDS)


def step(circuit: Circuit, event: Event, now: float) -> Step:
    """Return the state after an event, and the actions to carry out."""
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
    """Let a probe be due, unless one is due or under way already."""
    if circuit.probe_at is not None or circuit.probing_since is not None:
        return circuit
    return replace(circuit, probe_at=max(now, circuit.probed_at + _PROBE_SECONDS))


def _answered(circuit: Circuit, why: str | None, chance: float, now: float) -> Step:
    began = circuit.probing_since
    if began is None:
        # The answer belongs to no question, for example to a probe that was given up.
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
    """Blame the users who failed before the probe began. The others wait for the next probe."""
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
    # The cluster may work again since this moment, and then the next probe succeeds.
    return _asking(circuit, now), actions
