"""What has changed between two views, in plain words: the reasons of a new plan."""

from collections.abc import Iterable, Iterator
from typing import Final

from peruserd.core.cluster.views import View
from peruserd.core.common.escaping import named
from peruserd.core.ownership.ranges import Range, ShardMap

MAX_REASONS: Final = 12
"""The limit of reasons for one change. A shard map with another placement changes every range."""


def changes(before: View | None, now: View) -> tuple[str, ...]:
    """Return what has changed from one view to the next, most important first; nothing if the plan cannot differ."""
    return _bounded(_changes(before, now))


def upcoming_changes(in_force: View, seen: View) -> tuple[str, ...]:
    """Return what the view seen last has that is not in force yet."""
    return _bounded(f"seen, and not in force yet: {each}" for each in _changes(in_force, seen))


def _changes(before: View | None, now: View) -> Iterator[str]:
    if before is None:
        yield "the first plan after the start"
        return
    if now.standby is not before.standby:
        yield "another instance is active beside this node" if now.standby else "this instance became the active one"
    yield from _appeared(before.nodes, now.nodes, "node {} is connected", "node {} is not connected any more")
    yield from _instance_changes(before, now)
    yield from _map_changes(before.shard_map, now.shard_map)
    if now.cut_off is not before.cut_off:
        yield (
            "the connected nodes are no majority of the cluster"
            if now.cut_off
            else "a majority of the nodes is connected again"
        )


def _instance_changes(before: View, now: View) -> Iterator[str]:
    if before.gives_up is not now.gives_up:
        yield "this instance was told to give up its users" if now.gives_up else "this instance takes its users back"
    others = [frozenset(each.instances) - {each.me} for each in (before, now)]
    drained = others[0].intersection(now.drained) - others[1]
    yield from (f"the instance beside {named(each)} was told to give up its users" for each in sorted(drained))
    yield from _appeared(
        others[0] - drained,
        others[1],
        "the instance beside {} is alive",
        "the instance beside {} has stopped, or gives no sign of life",
    )


def _appeared(before: Iterable[str], now: Iterable[str], there: str, gone: str) -> Iterator[str]:
    earlier, later = frozenset(before), frozenset(now)
    yield from (gone.format(named(each)) for each in sorted(earlier - later))
    yield from (there.format(named(each)) for each in sorted(later - earlier))


def _map_changes(before: ShardMap | None, now: ShardMap | None) -> Iterator[str]:
    if before is None or now is None:
        if before is not now:
            yield f"the authentication database {'exists' if now is not None else 'does not exist any more'}"
        return
    if before.suffix != now.suffix:
        yield "the authentication database was deleted and made again"
        return
    gone = [each for each in before.hosts if each not in now.hosts]
    new = [each for each in now.hosts if each not in before.hosts]
    for old in gone:
        parts = [each for each in new if old.holds(each)]
        yield f"range {old} was split into {_ranges(parts)}" if parts else f"range {old} is gone"
    yield from (f"range {each} is new" for each in new if not any(old.holds(each) for old in gone))
    for covered, hosts in now.hosts.items():
        earlier = before.hosts.get(covered, hosts)
        yield from _appeared(
            earlier, hosts, f"{{}} has a copy of range {covered}", f"{{}} has no copy of range {covered} any more"
        )


def _ranges(ranges: list[Range]) -> str:
    return ", ".join(map(str, ranges))


def _bounded(reasons: Iterable[str]) -> tuple[str, ...]:
    found = list(reasons)
    if len(found) <= MAX_REASONS:
        return tuple(found)
    return (*found[: MAX_REASONS - 1], f"and {len(found) - MAX_REASONS + 1} more")
