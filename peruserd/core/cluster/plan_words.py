"""A plan in one sentence, for the log, for systemd and for the status page."""

from peruserd.core.cluster.views import Plan, View


def described(plan: Plan, view: View) -> str:
    """Return what an instance does by its plan, or why it does nothing."""
    if view.standby:
        return "standing by: another instance is active beside this node"
    if view.gives_up:
        return "drained: other instances serve the users of this one"
    if view.shard_map is None and not plan.assignments:
        return "waiting for the authentication database, which does not exist"
    words = f"listening to {len(plan.assignments)} of {len(view.shard_map.hosts) if view.shard_map else 1} ranges"
    if plan.unreadable:
        words += f"; {len(plan.unreadable)} cannot be read, because no node that hosts them is connected"
    return words
