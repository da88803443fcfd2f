"""The report of a listener: its state and its counters.

`core.scheduling.listener_state` completes this class with the state itself.
"""

from abc import ABC, abstractmethod

import msgspec

from peruserd.core.feed.changes import Change
from peruserd.core.feed.intake import Intake
from peruserd.core.processes.counters import Counters
from peruserd.core.processes.messages import Report, Stage
from peruserd.core.scheduling import state_hold
from peruserd.core.scheduling.aftermath import CountedOutcome
from peruserd.core.scheduling.cluster_hold import ClusterHold
from peruserd.core.scheduling.dispatch import Dispatch
from peruserd.core.scheduling.documents import Documents


class Reporting(ABC):
    """The part of a listener's state that makes its report."""

    intake: Intake
    documents: Documents
    cluster_hold: ClusterHold
    dispatch: Dispatch
    counters: Counters
    rounds: int
    _feed_fails: bool
    # Why the state cannot be written; None while it can.
    _state_trouble: str | None = None

    def hold_for_state(self, trouble: str | None) -> None:
        """Give out no work while the state cannot be written, for this reason; None ends that."""
        self._state_trouble = trouble
        self.dispatch.trials.closed = trouble is not None

    @property
    @abstractmethod
    def looked(self) -> int:
        """Return the number up to which all requested looks are done."""

    def _count(self, change: Change, outcome: CountedOutcome) -> None:
        counters = self.counters
        # The last sweep of a scan visits users whom an earlier sweep has served, so it counts only if it writes.
        counters.users_provisioned += outcome.provisioned and (not change.each_copy or outcome.security_written)
        counters.users_revoked += outcome.revoked
        counters.looked(change.lane.name.lower())
        counters.databases_created += outcome.created
        counters.security_writes += outcome.security_written
        if outcome.action is not None:
            counters.changed(outcome.action)

    @property
    def _on_hold(self) -> str | None:
        if self._state_trouble is not None:
            return f"state cannot be written: {self._state_trouble}"
        return self.cluster_hold.why

    def _caught_up(self) -> bool:
        if self._feed_fails or self._on_hold is not None or not self.intake.has_caught_up:
            return False
        return not self.intake.is_awaited

    def report(self) -> Report:
        """Return the state of the listener."""
        opened = self.intake.is_open and not self._feed_fails
        scanning = self.intake.is_scanning
        following = Stage.SCANNING if scanning else Stage.FOLLOWING
        live = self.intake.live
        return Report(
            rounds=self.rounds,
            stage=following if opened else Stage.CONNECTING,
            caught_up=self._caught_up(),
            checkpoint=self.intake.checkpoint,
            shard_sequence=self.intake.shard_sequence,
            waiting=self.documents.waiting,
            in_flight=self.documents.active,
            quarantined=self.documents.kept_users.total,
            on_hold=self._on_hold,
            hold_kind=self.cluster_hold.kind if self._state_trouble is None else state_hold.KIND,
            permanent=self.documents.kept_users.permanent,
            kinds=dict(self.documents.kept_users.by_kind),
            oldest_kept_since=self.documents.kept_users.oldest_since,
            oldest_waiting_since=None if live is None else live.oldest_at,
            read_at=None if live is None else live.read_at,
            # A copy, made by encoding, because the counters change while the report is sent.
            counters=msgspec.convert(msgspec.to_builtins(self.counters), Counters),
            looked=self.looked,
            looked_at_all=self.intake.looked_at_all,
        )
