"""The budget of restarts: when the failures of listeners are a reason to start the whole instance anew.

A restart of the instance takes every listener down, so it must plausibly cure something. These are the rules:

    The unplanned ends                               What happens
    -----------------------------------------------  ---------------------------------------------------------
    of one listener, or of a few                     each one is started again after its own growing pauses
    of most listeners, each many times in a row      the instance ends, and systemd starts it anew
    with exit code 75, for example on a full disk    they never count, because a restart would not help
    where memory, processes or threads are used up   they never count, for the same reason
    by the plan, an order of an operator, a reload   they never count, because nothing has failed

So each listener has a budget of its own, and that of the instance grows with the number of listeners. A listener that
has recovered has its whole budget again. `core.processes.lifecycle` says when that is, and counts the faults in a row.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from peruserd.core.processes.lifecycle import Child

FAULTS: Final = 10
"""The default for the faults of one listener in a row. Its pauses take about two minutes by then."""


class RestartBudget(msgspec.Struct, frozen=True):
    """`faults` is how often a listener may fail in a row before it counts as one that restarts alone do not cure."""

    faults: int = FAULTS

    def is_spent(self, child: Child) -> bool:
        """Say whether a listener has used up its budget."""
        return child.wanted and child.faults >= self.faults

    def exceeded(self, children: Iterable[Child]) -> bool:
        """Say whether more than half of the wanted listeners have used up their budgets."""
        spent = [self.is_spent(each) for each in children if each.wanted]
        return 2 * sum(spent) > len(spent)
