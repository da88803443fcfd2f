"""A status with something in each field, and one whose texts all are one evil text."""

from typing import Any, Final

import msgspec

from peruserd.core.cluster.leases import LeaseStatus
from peruserd.core.processes.counters import LATENCY_BUCKETS
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.messages import Stage, Usage
from peruserd.core.processes.status import (
    FORMAT,
    AuditRound,
    AuditView,
    AuthenticationView,
    DeletionsView,
    InstanceRole,
    LatencyPoint,
    LatencyStatus,
    ListenerView,
    Opinion,
    PlanChange,
    RangeStatus,
    SeenInstance,
    Status,
    cut,
)

NODE: Final = "node1@127.0.0.1"
AT: Final = 1_800_000_000.0

_POINT: Final = LatencyPoint(at=AT, seconds=30.0, served=3, median=0.02, p95=0.4, p99=0.9)

STATUS: Final = Status(
    format=FORMAT,
    time=AT,
    version="0.1.0",
    node=NODE,
    incarnation="0123456789abcdef",
    started=AT - 3_600,
    uptime=3_600.0,
    role=InstanceRole.ACTIVE,
    healthy=Opinion(ok=True, why="ok"),
    ready=Opinion(ok=True, why="ok"),
    nodes=(NODE,),
    leases_readable=True,
    database="_users",
    instances=(
        SeenInstance(NODE, "0123456789abcdef", "0.1.0", LeaseStatus.ALIVE, True, True, 1.0, False, True, "127.0.0.1:1"),  # noqa: FBT003
    ),
    ranges=(
        RangeStatus("00000000-7fffffff", 0, 0x7FFFFFFF, (NODE,), (NODE,), (NODE,), readable=True, adopted=False),
        RangeStatus("80000000-ffffffff", 1 << 31, (1 << 32) - 1, (NODE,), (NODE,), (), readable=True, adopted=True),
    ),
    unreadable=(),
    listeners=(
        ListenerView(
            range="00000000-7fffffff",
            node=NODE,
            copy=f"00000000-7fffffff@{NODE}",
            state=State.RUNNING,
            why=None,
            restarts=0,
            failures=0,
            pid=7,
            caught_up=True,
            stage=Stage.FOLLOWING,
            lag_seconds=0.0,
            feed_age=1.0,
            lag_rows=0,
            waiting=0,
            in_flight=0,
            quarantined=2,
            permanent=2,
            checkpoint=5,
            shard_sequence=5,
            usage=Usage(1.0, 50_000_000, 17, 6),
        ),
    ),
    latency=LatencyStatus(LATENCY_BUCKETS, (0,) * 14, _POINT, (_POINT,)),
    quarantine={"held": 2},
    deletions=DeletionsView(1, 2, 0, 60.0, 3, paused=True, paused_why="breaker", paused_since=AT - 60),
    audit=AuditView(AuditRound(AT - 90, AT - 30, 10, {"missing": 1}), AuditRound(AT - 9, None, 2, {})),
    authentication=AuthenticationView(let_in=True, trouble=None, logins=1, refusals=0),
    couch_peruser=False,
    maintenance=False,
    plans=(PlanChange(AT, ("the first plan after the start",), "listening to 2 of 2 ranges", "2 started"),),
    counters={"databases_created": 3},
    failures={"timeout": 1},
    omitted={},
)
"""A status in which nearly everything is well."""


def evil_status(text: str) -> Status:
    """Return a status in which each text that others can choose is this one, cut as the daemon cuts it."""
    text = cut(text)
    replace = msgspec.structs.replace
    opinion = Opinion(ok=False, why=text)
    names: dict[str, Any] = {"hosts": (text, NODE), "owners": (text, NODE), "followed_at": (text,)}
    instance = replace(STATUS.instances[0], node=text, incarnation=text, version=text, address=text)
    listener = replace(STATUS.listeners[0], node=text, copy=text, on_hold=text, why=Reason.CRASHED, checkpoint=text)
    return replace(
        STATUS,
        node=text,
        incarnation=text,
        healthy=opinion,
        ready=opinion,
        nodes=(text,),
        away=(text,),
        refused=text,
        instances=(instance, replace(instance, is_me=False, same_configuration=False)),
        ranges=tuple(replace(each, **names) for each in STATUS.ranges),
        listeners=(listener,),
        authentication=replace(STATUS.authentication, trouble=text),
        plans=(PlanChange(AT, (text, text), text, text),),
    )
