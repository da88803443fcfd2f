"""The last changes of an instance's plan, with their reasons, for people who ask what has happened."""

import time
from collections.abc import Callable
from typing import Final

from peruserd.core.cluster.view_changes import changes, upcoming_changes
from peruserd.core.cluster.views import View
from peruserd.core.processes.status import PlanChange, cut

_MAX_CHANGES: Final = 20


class PlanHistory:
    """The newest changes of the plan. The supervisor's loop notes them, and any thread may read them."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        # Replaced as a whole, so that a reader needs no lock.
        self._changes: tuple[PlanChange, ...] = ()

    @property
    def changes(self) -> tuple[PlanChange, ...]:
        """Return the last changes, the newest first."""
        return self._changes

    def note(self, before: tuple[View, View] | None, now: tuple[View, View], says: str, done: str) -> None:
        """Note that a plan was carried out. The views are the one in force and the one seen last, of both plans."""
        in_force, seen = now
        reasons = changes(None if before is None else before[0], in_force)
        if not reasons:
            # A plan can follow from the view seen last alone: a copy has moved, or documents are about to.
            reasons = upcoming_changes(in_force, seen) or ("what was about to change stays as it was",)
        self._changes = (
            PlanChange(self._wall_clock(), tuple(map(cut, reasons)), cut(says), cut(done)),
            *self._changes,
        )[:_MAX_CHANGES]
