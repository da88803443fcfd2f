"""The time that planning takes.

For each case five things are timed:

- the plan of one instance while nothing changes (the view in force and the view seen are equal, but other objects);
- the plan of one instance during the quiet period after another one was lost;
- the plans of all instances, which no instance computes;
- the difference between a running plan and the next;
- the comparison of two equal plans.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bench.results import Chart, Table
from bench.scale.layouts import Layout
from bench.scale.timings import Timing, timed
from peruserd.core.cluster.views import View, difference, make_plan

LIMIT_MILLISECONDS: Final = 50.0

Alive = Callable[[tuple[str, ...]], tuple[str, ...]]

EVERY_NODE: Final = "every node"
EVERY_OTHER: Final = "every other node"
FIRST_HALF: Final = "the first half"

# Copies lie on neighbouring nodes. With every other node alive, each range keeps a live host. With the first half
# alive, half of the ranges have none and must be adopted, which is the worst case.
_ALIVE: Final[dict[str, Alive]] = {
    EVERY_NODE: lambda names: names,
    EVERY_OTHER: lambda names: names[::2],
    FIRST_HALF: lambda names: names[: len(names) // 2],
}

_CASES: Final = (
    (Layout(3, 2), EVERY_NODE),
    (Layout(10, 64), EVERY_NODE),
    (Layout(50, 256), EVERY_NODE),
    (Layout(100, 1024), EVERY_NODE),
    (Layout(100, 1024), EVERY_OTHER),
    (Layout(100, 1024), FIRST_HALF),
    (Layout(50, 1024, copies=50), EVERY_NODE),
)

Curve = dict[str, dict[int, Timing]]
"""The time of one plan by the instances that are alive, and by the number of ranges."""


class Case(msgspec.Struct, frozen=True):
    """One case and its timings."""

    layout: Layout
    alive: str
    instances: int
    listeners: int
    settled: Timing
    in_change: Timing
    all_instances: Timing
    difference: Timing
    equality: Timing


def measure(repeats: int, curve_ranges: Sequence[int]) -> tuple[list[Case], Curve]:
    """Return the cases and the curve, each call so many times."""
    cases = [_case(layout, alive, repeats) for layout, alive in _CASES]
    curve = {
        alive: {ranges: _plan_timing(Layout(100, ranges), alive, repeats) for ranges in curve_ranges}
        for alive in _ALIVE
    }
    return cases, curve


def table(cases: list[Case]) -> Table:
    """Return the cases as a table."""
    return Table(
        "Planning, in milliseconds: median (least–most)",  # noqa: RUF001
        (
            "nodes",
            "ranges",
            "copies",
            "instances",
            "listeners",
            "one plan",
            "in a change",
            "all plans",
            "difference",
            "equality",
        ),
        tuple(
            (
                str(each.layout.nodes),
                f"{each.layout.ranges:,}",
                str(each.layout.copies_made),
                f"{each.instances} ({each.alive})",
                str(each.listeners),
                str(each.settled),
                str(each.in_change),
                str(each.all_instances),
                str(each.difference),
                str(each.equality),
            )
            for each in cases
        ),
    )


def chart(curve: Curve) -> Chart:
    """Return the time of one plan over the ranges."""
    lines = {
        f"alive: {alive}": [(float(ranges), each.median) for ranges, each in timings.items()]
        for alive, timings in curve.items()
    }
    return Chart("one plan, 100 nodes, 3 copies", "ranges", "ms", lines, limit=LIMIT_MILLISECONDS, logarithmic=True)


def _view(layout: Layout, alive: str) -> View:
    return layout.view(_ALIVE[alive](layout.names))


def _plan_timing(layout: Layout, alive: str, repeats: int) -> Timing:
    view, seen, me = _view(layout, alive), _view(layout, alive), layout.names[0]
    return timed(lambda: make_plan(view, me, seen), repeats)


def _case(layout: Layout, alive: str, repeats: int) -> Case:
    view, me = _view(layout, alive), layout.names[0]
    same = _view(layout, alive)
    without_one = msgspec.structs.replace(same, instances=view.instances[:-1])
    plan, same_plan, next_plan = make_plan(view, me), make_plan(same, me), make_plan(without_one, me)
    running = {each.copy: each for each in plan.assignments}
    return Case(
        layout=layout,
        alive=alive,
        instances=len(view.instances),
        listeners=len(plan.assignments),
        settled=timed(lambda: make_plan(view, me, same), repeats),
        in_change=timed(lambda: make_plan(view, me, without_one), repeats),
        all_instances=timed(lambda: [make_plan(view, each) for each in view.instances], max(1, repeats // 10)),
        difference=timed(lambda: difference(next_plan, running), repeats),
        equality=timed(lambda: plan == same_plan, repeats),
    )
