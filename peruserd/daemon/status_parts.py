"""The parts of an instance's status that come from its listeners and its views."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from peruserd.core.audit.rounds import Summary
from peruserd.core.cluster.views import Copy, Feed, View
from peruserd.core.deletions.journal import Pause
from peruserd.core.ownership.ownership import Owners
from peruserd.core.processes.messages import Report
from peruserd.core.processes.status import (
    AuditRound,
    AuditView,
    Cutter,
    DeletionsView,
    ListenerView,
    RangeStatus,
    cut,
)
from peruserd.core.users.quarantine import KINDS
from peruserd.supervisor.fleet_status import FleetStatus
from peruserd.supervisor.listener import ListenerStatus

# A state file of another version can have a kind that this one does not know.
_OTHER_KIND: Final = "other"


def listener_view(listener: ListenerStatus, now: float) -> ListenerView:
    """Return what is shown of a listener; `now` is of the monotonic clock."""
    view = ListenerView(
        range=str(listener.copy.range),
        node=cut(listener.copy.node),
        copy=cut(str(listener.copy)),
        state=listener.state,
        why=listener.reason,
        restarts=listener.restarts,
        failures=listener.failures,
        pid=listener.pid,
        caught_up=listener.caught_up,
    )
    report = listener.report
    if report is None:
        return view
    return msgspec.structs.replace(
        view,
        stage=report.stage,
        lag_seconds=_since(report.oldest_waiting_since, now) or 0.0,
        feed_age=_since(report.read_at, now),
        lag_rows=_lag(report),
        waiting=report.waiting,
        in_flight=report.in_flight,
        quarantined=report.quarantined,
        permanent=report.permanent,
        on_hold=None if report.on_hold is None else cut(report.on_hold),
        hold_kind=report.hold_kind,
        checkpoint=_sequence(report.checkpoint),
        shard_sequence=_sequence(report.shard_sequence),
        usage=report.usage if listener.pid is not None else None,
    )


def _since(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)


def _sequence(sequence: int | str | None) -> int | str | None:
    return cut(sequence) if isinstance(sequence, str) else sequence


def _lag(report: Report) -> int | None:
    if isinstance(report.checkpoint, int) and isinstance(report.shard_sequence, int):
        return max(0, report.shard_sequence - report.checkpoint)
    return None


def range_rows(view: View, seen: View, copies: Iterable[Copy], cutter: Cutter) -> tuple[RangeStatus, ...]:
    """Return the ranges by the view in force and the view seen last, with the `copies` that are followed here.

    The ranges are those of the map seen last, because a copy that is gone cannot be read. A listener without shards
    covers everything.
    """
    followed: dict[str, list[str]] = {}
    whole = None
    for copy in copies:
        followed.setdefault(str(copy.range), []).append(cut(copy.node))
        whole = copy if copy.feed is Feed.DATABASE else whole
    shard_map = seen.shard_map or view.shard_map
    if whole is not None:
        covered, me = whole.range, (cut(whole.node),)
        return (RangeStatus(str(covered), covered.begin, covered.end, me, me, me, readable=True, adopted=False),)
    if shard_map is None:
        return ()
    owners = Owners(view.shard_map or shard_map, view.instances)
    instances, nodes = frozenset(view.instances), frozenset(seen.nodes)
    hosted = shard_map.hosts
    holes = dict.fromkeys(shard_map.holes(), ())
    return tuple(
        RangeStatus(
            range=str(covered),
            begin=covered.begin,
            end=covered.end,
            hosts=cutter.names("hosts", hosted.get(covered, ())),
            # Nobody owns what is in no range.
            owners=() if covered in holes else cutter.names("owners", owners.of(covered).candidates),
            followed_at=tuple(followed.get(str(covered), ())),
            readable=not nodes.isdisjoint(hosted.get(covered, ())),
            adopted=covered not in holes and instances.isdisjoint(hosted[covered]),
        )
        for covered in cutter.rows("ranges", sorted({**hosted, **holes}))
    )


def quarantined_by_kind(listeners: Iterable[ListenerStatus]) -> dict[str, int]:
    """Return the users in quarantine by the kind of their failure, the most frequent first."""
    kinds: Counter[str] = Counter()
    for each in listeners:
        for kind, count in ({} if each.report is None else each.report.kinds).items():
            kinds[kind if kind in KINDS else _OTHER_KIND] += count
    return dict(sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))


def deletions_view(fleet: FleetStatus, pause: Pause | None, wall: float) -> DeletionsView:
    """Return the deletions that wait; `wall` is now by the wall clock."""
    statuses = [each.report.deletions for each in fleet.listeners if each.report is not None]
    due = [each.oldest_due for each in statuses if each.oldest_due is not None]
    is_paused = pause is not None and pause.paused
    return DeletionsView(
        waiting=sum(each.waiting for each in statuses),
        held=sum(each.held for each in statuses),
        beyond_bound=sum(each.uncounted for each in statuses),
        overdue=max(0.0, wall - min(due)) if due else 0.0,
        dropped=fleet.counters.databases_dropped,
        paused=None if pause is None else pause.paused,
        paused_why=pause.why.value if pause is not None and is_paused else None,
        paused_since=pause.at if pause is not None and is_paused and pause.at else None,
    )


def audit_view(listeners: Iterable[ListenerStatus]) -> AuditView:
    """Return the rounds of the audit, of all listeners together."""
    statuses = [None if each.report is None else each.report.audit for each in listeners]
    last = [each.last for each in statuses if each is not None and each.last is not None]
    running = [each.running for each in statuses if each is not None and each.running is not None]
    return AuditView(_together(last) if len(last) == len(statuses) else None, _together(running))


def _together(rounds: list[Summary]) -> AuditRound | None:
    if not rounds:
        return None
    findings: Counter[str] = Counter()
    for each in rounds:
        findings.update({kind.value: count for kind, count in each.findings.items()})
    ended = [each.ended for each in rounds if each.ended is not None]
    return AuditRound(
        begun=min(each.begun for each in rounds),
        ended=max(ended) if len(ended) == len(rounds) else None,
        users=sum(each.users for each in rounds),
        findings=dict(sorted(findings.items())),
    )


def counted(counters: object) -> dict[str, int]:
    """Return the plain counters by their names."""
    fields: Mapping[str, object] = msgspec.structs.asdict(counters)  # type: ignore[arg-type]
    return {name: value for name, value in fields.items() if isinstance(value, int)}
