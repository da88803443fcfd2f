"""The benchmark `provision`: many users at once, until each has a secured database.

Three contenders get the same load in turns:

- the ceiling, a loop that makes the two bare requests for each user, with several numbers of users in flight;
- peruserd, with an instance beside each node;
- couch_peruser, where the server has it.

The clock runs from the first user document to the last database that is seen to be secured. Each contender is looked at
in the same way, because looks take their share of the cluster. A ratio is of medians of the same run.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.bare import Bare
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.contenders import BARE, BUILTIN, PERUSERD, available, rotated, serving
from bench.harness.daemons import QUICK_CLUSTER, Daemons
from bench.harness.progress import Steps
from bench.results import Chart, Figure, Report, Table, spread

# User documents of one request; a bare loop begins with the first ones while the next are written.
_GROUP: Final = 250

# Between two counts of the databases, because a count costs a node as much as a quarter of a user. Near the end the
# clock is wrong by this time, so it is shorter there.
_LOOK_SECONDS: Final = 0.5
_LAST_LOOK_SECONDS: Final = 0.1

# The number of last users whose databases are read before the clock stops: more than can be in flight at once.
_LAST: Final = 200

# A contender that has made no database for so long has stopped serving.
_STUCK_SECONDS: Final = 60.0

MIN_RATIO_TO_CEILING: Final = 0.9
MIN_RATIO_TO_BUILTIN: Final = 2.0
MAX_PROCESSOR_MS: Final = 4.0


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The users of a round, the rounds, and the numbers of users whom the bare loops have in flight."""

    users: int = 2_000
    rounds: int = 2
    in_flight: tuple[int, ...] = (8, 16, 32, 64)


QUICK: Final = Course(users=100, rounds=1, in_flight=(16, 32), settings=QUICK_CLUSTER)


class Sample(msgspec.Struct, frozen=True):
    """One contender's run of one round. `unserved` users had no secured database when nothing happened any more.

    `created` is the number of databases at some seconds since the start. `processor_ms` is the processor time that the
    processes of peruserd took for each user.
    """

    contender: str
    round: int
    users: int
    unserved: int
    seconds: float
    created: list[tuple[float, int]]
    processor_ms: float | None = None

    @property
    def rate(self) -> float:
        """Return the users served a second."""
        return (self.users - self.unserved) / self.seconds


class Summary(msgspec.Struct, frozen=True):
    """Users a second by contender, the best of the bare loops, and peruserd's ratios."""

    rates: dict[str, float]
    best: str
    of_ceiling: float
    of_builtin: float | None


def course(options: Options) -> Course:
    """Return the size of the run; on a real cluster it takes about a minute a contender and round."""
    return QUICK if options.quick else Course()


def ceiling(in_flight: int) -> str:
    """Return the name of the bare loop with so many users in flight."""
    return f"{BARE}, {in_flight} in flight"


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Let each contender serve the users of each round."""
    cluster = setting.cluster
    contenders = available(cluster, [*map(ceiling, course.in_flight), PERUSERD, BUILTIN])
    steps.expect(course.rounds * len(contenders))
    for number in range(course.rounds):
        for contender in rotated(contenders, number):
            steps.step(f"round {number + 1}: {contender}")
            yield _round(cluster, setting.instances, contender, course, number)
            cluster.clean()


def _round(cluster: Cluster, instances: Daemons, contender: str, course: Course, number: int) -> Sample:
    with serving(cluster, instances, contender), ThreadPoolExecutor(1) as pool:
        names = cluster.new_names(course.users)
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
            users=course.users,
            unserved=len(unserved),
            seconds=end - begin,
            created=created,
            processor_ms=1000 * used / course.users if contender == PERUSERD else None,
        )


def _load(cluster: Cluster, contender: str, names: Sequence[str]) -> None:
    """Sign all users up; where the contender is a bare loop, serve them too."""
    if contender in (PERUSERD, BUILTIN):
        for _ in _signed_up(cluster, names):
            pass
    else:
        Bare(cluster).serve_all(_signed_up(cluster, names), _in_flight(contender))


def _signed_up(cluster: Cluster, names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Write the user documents, group by group; yield each group that is written."""
    for start in range(0, len(names), _GROUP):
        group = names[start : start + _GROUP]
        cluster.sign_up(group)
        yield group


def _wait(
    cluster: Cluster, names: Sequence[str], begin: float, others: int, load: Future[None]
) -> tuple[list[tuple[float, int]], float]:
    """Wait until all users are served, or until nothing happens any more; return the numbers by time, and the end.

    Databases are counted first, which costs the cluster little. When all are there, those made last are read until they
    are secured. `others` are the databases that were there before. Raises what `load` raises.
    """
    created = [(0.0, 0)]
    last = begin
    while created[-1][1] < len(names) and time.monotonic() - last < _STUCK_SECONDS:
        near_end = created[-1][1] >= len(names) - _LAST
        time.sleep(_LAST_LOOK_SECONDS if near_end else _LOOK_SECONDS)
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
    """Sum the samples up: the best ceiling, and peruserd's ratios, by medians."""
    rates = {each.contender: median(one.rate for one in _of(samples, each.contender)) for each in samples}
    best = max((name for name in rates if name not in (PERUSERD, BUILTIN)), key=rates.__getitem__)
    return Summary(
        rates=rates,
        best=best,
        of_ceiling=rates[PERUSERD] / rates[best],
        of_builtin=rates[PERUSERD] / rates[BUILTIN] if BUILTIN in rates else None,
    )


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return the rates of every round, and the ratios, which are single values because they are of medians."""
    found = summary(samples)
    rates = {
        f"rate: {name}": Figure(tuple(one.rate for one in _of(samples, name)), "users/s", "higher")
        for name in found.rates
    }
    ratios = {"peruserd / ceiling": Figure((found.of_ceiling,), "", "higher", MIN_RATIO_TO_CEILING)}
    if found.of_builtin is not None:
        ratios["peruserd / couch_peruser"] = Figure((found.of_builtin,), "", "higher", MIN_RATIO_TO_BUILTIN)
    used = tuple(one.processor_ms for one in samples if one.processor_ms is not None)
    return {**rates, **ratios, "processor time of a user": Figure(used, "ms", "lower", MAX_PROCESSOR_MS)}


def report(course: Course, samples: Sequence[Sample]) -> Report:
    """Return the rates as a table; the databases over time, and the bare loops by users in flight, as charts."""
    found = summary(samples)
    rows = tuple(
        (
            name + (" (the ceiling)" if name == found.best else ""),
            spread([one.rate for one in _of(samples, name)], "{:.1f}"),
            f"{rate / found.rates[found.best]:.2f}",
            str(sum(one.unserved for one in _of(samples, name))),
        )
        for name, rate in found.rates.items()
    )
    bare = [(float(_in_flight(name)), rate) for name, rate in found.rates.items() if name not in (PERUSERD, BUILTIN)]
    shown = [name for name in (found.best, PERUSERD, BUILTIN) if name in found.rates]
    return Report(
        tables=(
            Table(
                f"{course.users:,} users at once: users a second, median (least–most)",  # noqa: RUF001
                ("served by", "users/s", "of the ceiling", "not served"),
                rows,
            ),
        ),
        charts=(
            Chart(
                "users served since the first document",
                "seconds",
                "databases",
                {name: [(at, float(count)) for at, count in _of(samples, name)[0].created] for name in shown},
            ),
            Chart(
                "bare requests by users in flight",
                "users in flight",
                "users/s",
                {"bare": bare},
                limit=found.rates[PERUSERD],
                limit_label=PERUSERD,
            ),
        ),
    )


def _of(samples: Sequence[Sample], contender: str) -> list[Sample]:
    return [each for each in samples if each.contender == contender]


def _in_flight(contender: str) -> int:
    """Return the number of users in flight of a bare loop, from its name."""
    return int(contender.split()[1])
