"""The benchmark `provision`: many users at once, until each has a secured database.

Measured in turns, all with the same load: the ceiling (the two bare requests for each user from a loop, at several
numbers in flight), peruserd with an instance beside each node, and couch_peruser where the server has it. The clock
runs from the first user document written to the last database seen to be secured, by the same looks for all, which take
their share of the cluster. Ratios are of medians of the same run.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Final

import msgspec

from bench.results import Chart, Figure, Options, Result, Table, spread
from bench.rig.bare import Bare
from bench.rig.cluster import Cluster, ClusterError, open_cluster
from bench.rig.contenders import BARE, BUILTIN, PERUSERD, available, rotated, serving
from bench.rig.daemons import QUICK_CLUSTER, Daemons, daemons
from bench.rig.progress import Steps, steps

USERS: Final = 2_000
ROUNDS: Final = 2
IN_FLIGHT: Final = (8, 16, 32, 64)

# User documents of one request; a bare loop begins with the first ones while the next are written.
_GROUP: Final = 250

# Between two counts of the databases; near the end, where it is what the clock is wrong by, less. To count them costs a
# node as much as a quarter of a user.
_LOOK_SECONDS: Final = 0.5
_LAST_LOOK_SECONDS: Final = 0.1

# The number of last users who are looked at before the clock stops: more than can be in flight at once.
_LAST: Final = 200

# Past this without one more database the contender has stopped serving.
_STUCK_SECONDS: Final = 60.0

FLOOR_OF_CEILING: Final = 0.9
FLOOR_OF_BUILTIN: Final = 2.0
MAX_PROCESSOR_MS: Final = 4.0


Course = list[tuple[float, int]]
"""How many databases there were, at some seconds since the start."""


class Sample(msgspec.Struct, frozen=True):
    """One contender's run of one round. `unserved` users had no right database when nothing happened any more.

    `processor_ms` is the processor time that peruserd's processes took for each user.
    """

    contender: str
    round: int
    users: int
    unserved: int
    seconds: float
    created: Course
    processor_ms: float | None = None

    @property
    def rate(self) -> float:
        """Return the users served a second."""
        return (self.users - self.unserved) / self.seconds


class Summary(msgspec.Struct, frozen=True):
    """Users a second by contender, the best of the bare ones, and peruserd's ratios."""

    rates: dict[str, float]
    best: str
    of_ceiling: float
    of_builtin: float | None
    processor_ms: float


def run(options: Options) -> Result:
    """Measure; of a real cluster this takes about a minute a contender and round."""
    users, rounds = (100, 1) if options.quick else (USERS, ROUNDS)
    in_flight = IN_FLIGHT[1:3] if options.quick else IN_FLIGHT
    config = QUICK_CLUSTER if options.quick else None
    with open_cluster(options.cluster) as cluster, daemons(cluster, config) as instances:
        contenders = available(cluster, [*map(ceiling, in_flight), PERUSERD, BUILTIN])
        with steps("provision", rounds * len(contenders)) as progress:
            samples = list(_measure(cluster, instances, contenders, users, rounds, progress))
        return _result(options, cluster.version(), samples, users)


def ceiling(in_flight: int) -> str:
    """Return what the bare loop is called with so many users in flight."""
    return f"{BARE}, {in_flight} in flight"


def _measure(
    cluster: Cluster, instances: Daemons, contenders: Sequence[str], users: int, rounds: int, progress: Steps
) -> Iterator[Sample]:
    for number in range(rounds):
        for contender in rotated(contenders, number):
            progress.step(f"round {number + 1}: {contender}")
            yield _run(cluster, instances, contender, users, number)
            cluster.clean()


def _run(cluster: Cluster, instances: Daemons, contender: str, users: int, number: int) -> Sample:
    with serving(cluster, instances, contender), ThreadPoolExecutor(1) as pool:
        names = cluster.new_names(users)
        others = cluster.database_count()
        before = instances.processor_seconds()
        begin = time.monotonic()
        load = pool.submit(_load, cluster, contender, names)
        created, end = _wait(cluster, names, begin, others, load)
        load.result()
        used = instances.processor_seconds() - before
        unserved = cluster.unserved(names)
        if unserved and contender == PERUSERD:
            raise ClusterError(f"{len(unserved)} users were not served, such as {unserved[0]}")
        return Sample(
            contender=contender,
            round=number,
            users=users,
            unserved=len(unserved),
            seconds=end - begin,
            created=created,
            processor_ms=1000 * used / users if contender == PERUSERD else None,
        )


def _load(cluster: Cluster, contender: str, names: Sequence[str]) -> None:
    """Sign everybody up; of a bare loop, serve them too."""
    if contender in (PERUSERD, BUILTIN):
        for _ in _signed_up(cluster, names):
            pass
    else:
        Bare(cluster).serve_all(_signed_up(cluster, names), int(contender.split()[1]))


def _signed_up(cluster: Cluster, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Write the user documents, group by group; yield each group that is written."""
    for start in range(0, len(names), _GROUP):
        group = names[start : start + _GROUP]
        cluster.sign_up(group)
        yield group


def _wait(
    cluster: Cluster, names: Sequence[str], begin: float, others: int, load: Future[None]
) -> tuple[Course, float]:
    """Wait until all are served, or nothing happens any more; return the course of it, and when it ended.

    Databases are counted, which costs the cluster little; when all are there, those made last are looked at until they
    are secured. `others` are the databases that were there before. Raises what `load` raises.
    """
    created: Course = [(0.0, 0)]
    last = begin
    while created[-1][1] < len(names) and time.monotonic() - last < _STUCK_SECONDS:
        time.sleep(_LOOK_SECONDS if created[-1][1] < len(names) - _LAST else _LAST_LOOK_SECONDS)
        if load.done():
            load.result()
        count, now = cluster.database_count() - others, time.monotonic()
        if count > created[-1][1]:
            created.append((now - begin, count))
            last = now
    complete = last
    left = names[-_LAST:]
    while (left := cluster.unserved(left)) and time.monotonic() - complete < _STUCK_SECONDS:
        last = time.monotonic()
    return created, last


def summary(samples: Sequence[Sample]) -> Summary:
    """Sum the samples up: the best ceiling, and how peruserd compares, by medians."""
    rates = {each.contender: median(one.rate for one in samples if one.contender == each.contender) for each in samples}
    best = max((name for name in rates if name not in (PERUSERD, BUILTIN)), key=rates.__getitem__)
    mine = rates[PERUSERD]
    return Summary(
        rates=rates,
        best=best,
        of_ceiling=mine / rates[best],
        of_builtin=mine / rates[BUILTIN] if BUILTIN in rates else None,
        processor_ms=median(each.processor_ms for each in samples if each.processor_ms is not None),
    )


def _result(options: Options, version: str, samples: list[Sample], users: int) -> Result:
    found = summary(samples)
    rows = [
        (
            name + (" (the ceiling)" if name == found.best else ""),
            spread([one.rate for one in samples if one.contender == name], "{:.1f}"),
            f"{found.rates[name] / found.rates[found.best]:.2f}",
            str(sum(one.unserved for one in samples if one.contender == name)),
        )
        for name in found.rates
    ]
    return Result(
        name="provision",
        parameters={"cluster": version, "users": users, "quick": options.quick},
        samples={"runs": samples},
        figures=figures(samples, found),
        tables=(
            Table(
                f"{users:,} users at once, {version}: users a second, median (least–most)",  # noqa: RUF001
                ("served by", "users/s", "of the ceiling", "not served"),
                tuple(rows),
            ),
        ),
        charts=(
            Chart(
                "users served since the first document",
                "seconds",
                "databases",
                {name: _course(samples, name) for name in (found.best, PERUSERD, BUILTIN) if name in found.rates},
            ),
            Chart(
                "bare requests by users in flight",
                "users in flight",
                "users/s",
                {
                    "bare": [(float(name.split()[1]), rate) for name, rate in found.rates.items() if "bare" in name],
                },
                limit=found.rates[PERUSERD],
                limit_label=PERUSERD,
            ),
        ),
    )


def figures(samples: Sequence[Sample], found: Summary) -> dict[str, Figure]:
    """Return what runs are compared by. Ratios are single values: they are of medians."""
    rates = {
        f"rate: {name}": Figure(tuple(one.rate for one in samples if one.contender == name), "users/s", "higher")
        for name in found.rates
    }
    ratios = {"peruserd / ceiling": Figure((found.of_ceiling,), "", "higher", FLOOR_OF_CEILING)}
    if found.of_builtin is not None:
        ratios["peruserd / couch_peruser"] = Figure((found.of_builtin,), "", "higher", FLOOR_OF_BUILTIN)
    used = tuple(one.processor_ms for one in samples if one.processor_ms is not None)
    return {**rates, **ratios, "processor time of a user": Figure(used, "ms", "lower", MAX_PROCESSOR_MS)}


def _course(samples: Sequence[Sample], contender: str) -> list[tuple[float, float]]:
    first = next(each for each in samples if each.contender == contender)
    return [(seconds, float(count)) for seconds, count in first.created]
