"""Whether an instance can give up its documents now, so that its node can be taken down without anybody waiting.

The instance ends its listeners first, and then says so in its lease (`core.cluster.leases.drain_of`). So nobody
acts on a document twice. The others take over as soon as they read that (`core.cluster.stable_view`).
"""

from collections.abc import Iterable

import msgspec

from peruserd.core.cluster.leases import PROTOCOL, Lease, Role
from peruserd.core.cluster.views import View


class Obstacle(msgspec.Struct, frozen=True):
    """Why nobody would take over now. With `can_be_forced` the order can be noted until somebody can."""

    why: str
    can_be_forced: bool = False


def obstacle(view: View | None, others: Iterable[Lease]) -> Obstacle | None:
    """Return why no other instance would take over now; None if one would.

    `view` is the view in force, and `others` are the leases of all other live instances.
    """
    if view is None:
        return Obstacle("this instance does not know the cluster yet")
    if view.standby:
        return Obstacle("this instance stands by for another one of its node, and serves nobody")
    if not view.leases_readable:
        return Obstacle("leases cannot be read, so it is not known who could take over")
    active = [each for each in others if each.role is Role.ACTIVE]
    unaware = sorted(each.node for each in active if each.protocol < PROTOCOL)
    if unaware:
        why = (
            f"the instances beside {', '.join(unaware)} are of an older version, and would leave the users to this one"
        )
        return Obstacle(why, can_be_forced=True)
    if not any(each.node in view.nodes and each.node != view.me and not each.draining for each in active):
        return Obstacle("no other instance is there that could take over", can_be_forced=True)
    return None
