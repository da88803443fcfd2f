"""The benchmark `scale`: all its parts, put together."""

import sys

from bench.results import Options, Result
from bench.scale import moving, planning, traffic, users


def run(options: Options) -> Result:
    """Measure planning, movement, reading and traffic; the last runs real instances and takes minutes."""
    _tell("planning")
    cases, curve = planning.measure(quick=options.quick)
    _tell("moving")
    losses = moving.measure(quick=options.quick)
    _tell("users")
    played = users.measure(quick=options.quick)
    _tell("traffic")
    counts = traffic.measure(quick=options.quick)
    return Result(
        name="scale",
        parameters={"quick": options.quick, "limit_milliseconds": planning.LIMIT_MILLISECONDS},
        samples={"planning": cases, "planning_curve": curve, "moving": losses, "users": played, "traffic": counts},
        tables=(
            planning.table(cases),
            moving.table(losses),
            users.table(played),
            traffic.counted_table(counts),
            traffic.reckoned_table(),
        ),
        charts=(planning.chart(curve), moving.chart(losses), users.chart(played)),
    )


def _tell(part: str) -> None:
    print(f"scale: {part} …", file=sys.stderr, flush=True)
