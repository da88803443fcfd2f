"""Run the model check for as many steps as wanted, outside of the tests.

    python -m tests.model.long_run --steps 1000000 [--minutes 15] [--first-seed 1] [--machine hostile]

Each seed runs 40 examples of up to 50 steps, with one machine after the other or only the named one. The machines are
`ordinary`, `five`, `hostile`, `hostile-five`, `others`, `others-five` and `reported-others`. For each seed a line is
printed, with the number of steps so far and a digest of its history. A seed has the same history again on the same code
and the same versions of Python and Hypothesis. The first failure ends the run with Hypothesis' shortest sequence of
steps, and with exit status 1. Several runs can go side by side, each with seeds of its own.
"""

import argparse
import logging
import sys
import time
import zlib
from typing import Final

import structlog
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.hostile import HostileFiveNodesMachine, HostileMachine
from tests.model.machine import ClusterMachine, FiveNodesMachine
from tests.model.others_machine import OthersFiveNodesMachine, OthersMachine, ReportedOthersMachine
from tests.model.witness import AUTH_DB
from tests.model.world import World

_MACHINES: Final[dict[str, type[ClusterMachine]]] = {
    "ordinary": ClusterMachine,
    "hostile": HostileMachine,
    "five": FiveNodesMachine,
    "hostile-five": HostileFiveNodesMachine,
    "others": OthersMachine,
    "others-five": OthersFiveNodesMachine,
    "reported-others": ReportedOthersMachine,
}

_EXAMPLES: Final = 40

_SETTINGS: Final = settings(
    stateful_step_count=50,
    deadline=None,
    database=None,
    verbosity=Verbosity.normal,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    report_multiple_bugs=False,
)


def main() -> int:
    """Run until the steps or the minutes are over; return 1 at a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--machine", choices=_MACHINES)
    options = parser.parse_args()
    machines = [_MACHINES[options.machine]] if options.machine else list(_MACHINES.values())
    end = time.monotonic() + 60.0 * options.minutes
    steps, number = 0, options.first_seed
    while steps < options.steps and time.monotonic() < end:
        machine = machines[number % len(machines)]
        ran, digest = run_seed(machine, number)
        steps += ran
        print(f"seed {number}: {machine.__name__}, {ran} steps, {steps} in all, history {digest:08x}", flush=True)
        number += 1
    return 0


def run_seed(machine: type[ClusterMachine], number: int, examples: int = _EXAMPLES) -> tuple[int, int]:
    """Run one seed; return the number of its steps, and a digest of everything that happened in them."""
    # The log lines of instances contain the time of day, so two runs would never print the same.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    counted = digest = 0

    class Counting(machine):  # type: ignore[misc, valid-type]
        def check_invariants(self, settings: object, output: object, runtimes: object) -> None:
            nonlocal counted, digest
            counted += 1
            digest = zlib.crc32(repr(_summary(self.world)).encode(), digest)
            super().check_invariants(settings, output, runtimes)

    Counting.__name__ = machine.__name__
    try:
        run_state_machine_as_test(seed(number)(Counting), settings=settings(_SETTINGS, max_examples=examples))
    except BaseException:
        print(f"seed {number}: {machine.__name__} FAILED after {counted} steps", flush=True)
        raise
    return counted, digest


def _summary(world: World) -> tuple[object, ...]:
    """Return a small value that differs between histories: the amounts of work and their results."""
    documents = [
        (node.name, copy.update_seq, [leaves[0].rev for _, leaves in copy.docs.values()])
        for node in world.model.nodes
        for copy in node.holdings.get(AUTH_DB, ())
    ]
    work = [(instance.incarnation, len(listener.acts)) for instance, listener in world.listeners()]
    return world.now, world.witness.moment, sorted(world.witness.puts.items()), work, documents


if __name__ == "__main__":
    sys.exit(main())
