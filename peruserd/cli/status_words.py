"""The status of an instance as plain text for people.

Names of nodes and words of servers come from elsewhere, so each is escaped here.
"""

from collections.abc import Iterator
from typing import Final

from peruserd.cli.tables import table
from peruserd.core.cluster.leases import LeaseStatus
from peruserd.core.common.escaping import counted, date, harmless, shown, span
from peruserd.core.processes.lifecycle import State
from peruserd.core.processes.status import (
    InstanceRole,
    ListenerView,
    Opinion,
    PlanChange,
    RangeStatus,
    SeenInstance,
    Status,
)
from peruserd.supervisor.peruser_watch import ADVICE

# The most changes of the plan that are shown, and the most owners that are named in one row.
_PLANS: Final = 5
_MAX_OWNERS: Final = 6

_UNKNOWN: Final = "-"

_ROLES: Final = {
    InstanceRole.WAITING: "does not know the cluster yet",
    InstanceRole.ACTIVE: "active",
    InstanceRole.STANDBY: "stands by: another instance is active beside this node",
    InstanceRole.DRAINED: "drained: other instances serve its users",
    InstanceRole.STOPPING: "is stopping",
}


def in_words(status: Status) -> str:
    """Return the whole status, part by part, with an empty line between two parts."""
    return "\n\n".join(part for part in _parts(status) if part)


def listeners_in_words(status: Status) -> str:
    """Return a table of the listeners, and below it what troubles some of them."""
    if not status.listeners:
        return "no listener: " + harmless(status.ready.why)
    head = ("listener", "state", "stage", "lag", "waiting", "in flight", "quarantine", "restarts", "pid")
    troubles = [line for each in status.listeners for line in _troubles(each)]
    return "\n".join([table(head, map(_listener, status.listeners)), *troubles, *_left_out(status, "listeners")])


def _parts(status: Status) -> Iterator[str]:
    yield "\n".join(_head(status))
    if status.instances:
        head = ("instance", "standing", "role", "lease", "configuration", "version", "page")
        yield "\n".join([table(head, map(_instance, status.instances)), *_left_out(status, "instances")])
    if status.ranges:
        columns = ("range", "owners", "followed here", "")
        yield "\n".join([table(columns, map(_range, status.ranges)), *_left_out(status, "ranges")])
    yield listeners_in_words(status)
    yield "\n".join(_users(status))
    if status.plans:
        yield "\n".join(["last changes of the plan", *map(_plan, status.plans[:_PLANS])])


def _plan(each: PlanChange) -> str:
    return f"  {date(each.at)}  {harmless(each.says)} ({harmless('; '.join(each.reasons))})"


def _head(status: Status) -> Iterator[str]:
    node = "not attached to a node yet" if status.node is None else shown(status.node)
    since = f"up {span(status.uptime)}, version {shown(status.version)}"
    yield f"{node}: {_ROLES[status.role]}; {since}"
    yield f"  healthy  {_opinion(status.healthy)}"
    yield f"  ready    {_opinion(status.ready)}"
    if status.nodes is not None:
        alive = [each for each in status.instances if each.status is LeaseStatus.ALIVE or each.is_me]
        yield f"  cluster  {counted(len(status.nodes), 'node')} connected, {counted(len(alive), 'instance')} alive"
    if status.away:
        yield f"  away     {_names(status.away)}"
    if status.authentication.trouble is not None:
        yield f"  login    {harmless(status.authentication.trouble)}"
    if status.maintenance:
        yield "  node     in maintenance mode; its users are served all the same"
    if status.couch_peruser:
        yield f"  node     CouchDB's own couch_peruser is on, and writes beside this instance; {ADVICE}"
    for each in status.failing:
        yield f"  thread   {shown(each)} fails, and is tried again; the log has the traceback"
    if status.refused is not None:
        yield f"  config   the last reload was refused, and the one before is in force: {harmless(status.refused)}"


def _opinion(opinion: Opinion) -> str:
    why = harmless(opinion.why)
    return why if opinion.ok else f"no: {why}"


def _instance(each: SeenInstance) -> tuple[str, ...]:
    same = {None: _UNKNOWN, True: "the same", False: "another one"}[each.same_configuration]
    role = "active" if each.is_active else "standby"
    role += (", drained" if each.drained else "") + (", node in maintenance" if each.maintenance else "")
    age = _UNKNOWN if each.lease_age is None else f"{span(each.lease_age)} ago"
    name = (shown(each.node) if each.node else _UNKNOWN) + (" (this one)" if each.is_me else "")
    return name, each.status.value, role, age, same, shown(each.version), shown(each.address)


def _names(names: tuple[str, ...]) -> str:
    more = len(names) - _MAX_OWNERS
    return ", ".join(map(shown, names[:_MAX_OWNERS])) + (f" and {more} more" if more > 0 else "") or _UNKNOWN


def _range(each: RangeStatus) -> tuple[str, ...]:
    remark = "adopted: none of its hosts has an instance" if each.adopted else ""
    if not each.readable:
        remark = "CANNOT BE READ: no node that hosts it is connected"
    return shown(each.range), _names(each.owners), _names(each.followed_at), remark


def _listener(each: ListenerView) -> tuple[str, ...]:
    numbers = (each.lag_rows, each.waiting, each.in_flight, each.quarantined, each.restarts, each.pid)
    stage = _UNKNOWN if each.stage is None else each.stage.value
    return shown(each.copy), each.state.value, stage, *map(_number, numbers)


def _number(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)


def _troubles(each: ListenerView) -> Iterator[str]:
    if each.on_hold is not None:
        yield f"  {shown(each.copy)} tries no user: {harmless(each.on_hold)}"
    if each.state is State.BACKOFF:
        why = "" if each.why is None else f" ({each.why.value})"
        times = counted(each.failures, "time")
        yield f"  {shown(each.copy)} has ended {times} in a row{why}, and is started again soon"


def _users(status: Status) -> Iterator[str]:
    recent = status.latency.recent
    if recent.median is not None and recent.p95 is not None:
        yield (
            f"sign-ups: {recent.served:,} served in the last {span(recent.seconds)}, half of them within "
            f"{recent.median:.2g} s, 95 % within {recent.p95:.2g} s"
        )
    else:
        yield f"sign-ups: none in the last {span(recent.seconds)}"
    kinds = ", ".join(f"{count:,} {shown(kind)}" for kind, count in sorted(status.quarantine.items()) if count)
    yield f"quarantine: {kinds or 'nobody'}"
    deletions = status.deletions
    if deletions.paused is not None:
        paused = f"; paused: {shown(deletions.paused_why or 'why is not known')}" if deletions.paused else ""
        yield f"deletions: {deletions.waiting:,} wait, {deletions.held:,} held{paused}"


def _left_out(status: Status, name: str) -> Iterator[str]:
    if missing := status.omitted.get(name):
        yield f"  {missing:,} more"
