"""The benchmark `crowd`: how long one user waits while very many have signed up at once.

Single users sign up at a slow and steady rate: before the crowd, while it comes, amidst it and after it. The crowd is
written in a few requests. Nothing tells a single user who signs up between two of them from the crowd, so those are
counted apart. Amidst the crowd are the ones who come behind all of it, and before its last is served. Another checkout
of peruserd can be measured beside this one, in turns on the same cluster.

The latency of a single user is from the answer to the user document to the database seen to be secured. Of the crowd it
is only noted when each database appeared: to read all their security objects would be a load of its own. That all of
them are secured is asked at the end.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Final, Self

import msgspec
import psutil

from bench.results import Chart, Figure, Options, Result, Table, percentile
from bench.rig.cluster import Cluster, ClusterError, open_cluster
from bench.rig.contenders import PERUSERD, rotated
from bench.rig.daemons import QUICK_CLUSTER, Daemons, daemons
from bench.rig.openloop import OpenLoop, SignUp
from bench.rig.progress import Steps, steps
from bench.rig.watching import Watch

BESIDE: Final = "the other checkout"

BEFORE: Final = "before"
COMING: Final = "while it comes"
AMIDST: Final = "amidst"
AFTER: Final = "after"
PHASES: Final = (BEFORE, COMING, AMIDST, AFTER)

MAX_OF_BEFORE: Final = 10.0
MAX_OF_OTHER_CROWD: Final = 1.05
MAX_MIB: Final = 100.0

# Past this without one more of the crowd its contender has stopped serving.
_STUCK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.25
_MEMORY_SECONDS: Final = 1.0

# A crowd is served at this rate at least, or single users stop signing up before its end.
_MIN_RATE: Final = 10.0

# Of the crowd so many are asked for at the end, those who came last among them.
_MAX_ASKED: Final = 1_000

_MIB: Final = 2**20


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The size of the crowd, how many single users sign up a second, and the seconds before and after the crowd."""

    crowd: int = 20_000
    rate: float = 2.0
    rounds: int = 1
    warm_up: float = 5.0
    before: float = 40.0
    after: float = 30.0


QUICK: Final = Course(crowd=150, rate=10.0, warm_up=0.3, before=1.0, after=1.0)


class Single(msgspec.Struct, frozen=True):
    """One single user: when the document was answered, in seconds since the crowd came, and how long it took."""

    at: float
    milliseconds: float


class Crowd(msgspec.Struct, frozen=True):
    """When the crowd began to sign up, when it had signed up, and when its last was served, by a monotonic clock."""

    came: float
    written: float
    went: float

    def phase(self, at: float) -> str:
        """Return what a time is called by."""
        if at < self.came:
            return BEFORE
        # The last of a small crowd can be served before the last answer to it is there.
        return COMING if at < min(self.written, self.went) else AMIDST if at < self.went else AFTER


class Sample(msgspec.Struct, frozen=True):
    """One contender's round.

    `course` is how many of the crowd had a database some seconds after it came, `seconds` when all had. `memory_mib` is
    what the largest listener had for itself at most. `unserved` single users waited in vain, `refused` could not sign
    up.
    """

    contender: str
    round: int
    crowd: int
    seconds: float
    course: list[tuple[float, int]]
    memory_mib: float
    singles: dict[str, list[Single]]
    unserved: int
    refused: int

    @property
    def rate(self) -> float:
        """Return how many of the crowd were served a second."""
        return self.crowd / self.seconds

    def latencies(self, phase: str) -> list[float]:
        """Return the latencies of the single users of a phase, in milliseconds."""
        return [each.milliseconds for each in self.singles[phase]]


def run(options: Options) -> Result:
    """Measure; a crowd of 20,000 takes a real cluster ten minutes, most of them to remove it again."""
    course = QUICK if options.quick else Course()
    if options.users is not None:
        course = msgspec.structs.replace(course, crowd=options.users)
    config = QUICK_CLUSTER if options.quick else None
    with ExitStack() as stack:
        cluster = stack.enter_context(open_cluster(options.cluster))
        contenders = {PERUSERD: stack.enter_context(daemons(cluster, config))}
        if options.beside is not None:
            contenders[BESIDE] = stack.enter_context(daemons(cluster, config, options.beside))
        with steps("crowd", course.rounds * len(contenders)) as progress:
            samples = list(_measure(cluster, contenders, course, progress))
        return result(options, cluster.version(), course, samples)


def _measure(cluster: Cluster, contenders: dict[str, Daemons], course: Course, progress: Steps) -> Iterator[Sample]:
    for number in range(course.rounds):
        # The other one first: what comes second finds a cluster that was filled and cleaned.
        for contender in rotated(list(contenders)[::-1], number):
            progress.step(f"round {number + 1}: a crowd of {course.crowd:,}, {contender}")
            instances = contenders[contender]
            with instances.running():
                yield _round(cluster, instances, contender, course, number)
            cluster.clean()


def _round(cluster: Cluster, instances: Daemons, contender: str, course: Course, number: int) -> Sample:
    most = course.warm_up + course.before + course.crowd / _MIN_RATE + course.after
    names = cluster.new_names(int(course.rate * most))
    crowd = cluster.new_names(course.crowd)
    singles = set(names)
    with (
        Watch(cluster, singles.__contains__) as watch,
        OpenLoop(cluster, names, course.rate, range(len(cluster.urls))) as loop,
        Memory(instances) as memory,
        ThreadPoolExecutor(1) as pool,
    ):
        counted_from = loop.start + course.warm_up
        time.sleep(max(0.0, counted_from + course.before - time.monotonic()))
        came = time.monotonic()
        writing = pool.submit(_write, cluster, crowd)
        served = _wait(watch, course.crowd, came, writing.done)
        written = writing.result()
        time.sleep(course.after)
        loop.stop()
        signed_up = loop.finish()
        left = watch.wait_for({each.name for each in signed_up if each.answered is not None}, _STUCK_SECONDS)
    asked = crowd[:: max(1, course.crowd // _MAX_ASKED)] + crowd[-_MAX_ASKED // 10 :]
    if unserved := cluster.unserved(asked):
        raise ClusterError(f"{len(unserved)} users of the crowd were not served, such as {unserved[0]}")
    counted = [each for each in signed_up if each.due >= counted_from]
    return Sample(
        contender=contender,
        round=number,
        crowd=course.crowd,
        seconds=served[-1] - came,
        course=[
            (at - came, place) for place, at in enumerate(served, start=1) if place % max(1, len(served) // 200) == 0
        ],
        memory_mib=memory.most / _MIB,
        singles=phases(counted, watch.served, Crowd(came, written, served[-1])),
        unserved=len(left),
        refused=sum(each.answered is None for each in counted),
    )


def _write(cluster: Cluster, crowd: Sequence[str]) -> float:
    cluster.sign_up(crowd)
    return time.monotonic()


def _wait(watch: Watch, crowd: int, came: float, is_written: Callable[[], bool]) -> list[float]:
    """Wait until the whole crowd has databases; return when each came. Raises ClusterError where no more come."""
    while len(watch.appeared) < crowd:
        time.sleep(_LOOK_SECONDS)
        watch.check()
        last = max(watch.appeared.copy().values(), default=came)
        if is_written() and time.monotonic() - last > _STUCK_SECONDS:
            raise ClusterError(f"{crowd - len(watch.appeared)} users of the crowd were not served")
    return sorted(watch.appeared.values())


def phases(signed_up: Sequence[SignUp], served: dict[str, float], crowd: Crowd) -> dict[str, list[Single]]:
    """Return the single users who were served, by when they signed up."""
    found: dict[str, list[Single]] = {phase: [] for phase in PHASES}
    for each in signed_up:
        if each.answered is not None and each.name in served:
            milliseconds = 1000 * max(0.0, served[each.name] - each.answered)
            found[crowd.phase(each.answered)].append(Single(each.answered - crowd.came, milliseconds))
    return found


class Memory:
    """A context manager that looks at the listeners' memory now and then; `most` is the largest one's, in bytes."""

    def __init__(self, instances: Daemons) -> None:
        self._instances = instances
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            pids = [pid for each in self._instances.all for pid in each.listener_pids()]
            self.most = max(self.most, *map(_own_memory, pids), 0)
            if self._stopping.wait(_MEMORY_SECONDS):
                return


def _own_memory(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0


def pooled(samples: Sequence[Sample], contender: str, phase: str) -> list[float]:
    """Return the latencies of all rounds of a contender in a phase."""
    return [ms for each in samples if each.contender == contender for ms in each.latencies(phase)]


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return what runs are compared by: how much longer single users wait amidst the crowd, and what that costs it."""
    found = {}
    for contender in dict.fromkeys(each.contender for each in samples):
        own = [each for each in samples if each.contender == contender]
        named = "" if contender == PERUSERD else f", {contender}"
        goals = contender == PERUSERD
        before, amidst = pooled(own, contender, BEFORE), pooled(own, contender, AMIDST)
        if before and amidst:
            found["p99 amidst the crowd / before it" + named] = Figure(
                (percentile(amidst, 99) / percentile(before, 99),), "", "lower", MAX_OF_BEFORE if goals else None
            )
        found["the crowd's rate" + named] = Figure(tuple(each.rate for each in own), "users/s", "higher")
        found["memory of the largest listener" + named] = Figure(
            tuple(each.memory_mib for each in own), "MiB", "lower", MAX_MIB if goals else None
        )
    seconds = [[one.seconds for one in samples if one.contender == each] for each in (PERUSERD, BESIDE)]
    if all(seconds):
        found[f"time of the crowd / that of {BESIDE}"] = Figure(
            (median(seconds[0]) / median(seconds[1]),), "", "lower", MAX_OF_OTHER_CROWD
        )
    return found


def result(options: Options, version: str, course: Course, samples: list[Sample]) -> Result:
    """Return all that was found, as tables and charts."""
    contenders = list(dict.fromkeys(each.contender for each in samples))
    return Result(
        name="crowd",
        parameters={"cluster": version, "quick": options.quick, **msgspec.structs.asdict(course)},
        samples={"rounds": samples},
        tables=(
            Table(
                f"{course.rate:g} single sign-ups a second and a crowd of {course.crowd:,}, {version}: latency in ms",
                ("served by", "the crowd", "users", "p50", "p99", "most"),
                tuple(_row(samples, contender, phase) for contender in contenders for phase in PHASES),
            ),
            Table(
                f"The crowd of {course.crowd:,}",
                ("served by", "round", "seconds", "users/s", "largest listener, MiB", "singles not served"),
                tuple(
                    (
                        each.contender,
                        str(each.round + 1),
                        f"{each.seconds:.1f}",
                        f"{each.rate:.1f}",
                        f"{each.memory_mib:.1f}",
                        str(each.unserved + each.refused),
                    )
                    for each in samples
                ),
            ),
        ),
        charts=(
            Chart(
                "single users, by when they signed up",
                "seconds since the crowd came",
                "ms",
                {each: _cloud(samples, each) for each in contenders},
                logarithmic_y=True,
                points=True,
                marks={"the crowd comes": 0.0},
            ),
            Chart(
                "the crowd",
                "seconds since it came",
                "databases",
                {
                    f"{each.contender}, round {each.round + 1}": [(at, float(count)) for at, count in each.course]
                    for each in samples
                },
            ),
        ),
        figures=figures(samples),
    )


def _row(samples: Sequence[Sample], contender: str, phase: str) -> tuple[str, ...]:
    latencies = pooled(samples, contender, phase)
    shown = [f"{percentile(latencies, percent):.0f}" for percent in (50, 99, 100)] if latencies else ["", "", ""]
    return (contender, phase, str(len(latencies)), *shown)


def _cloud(samples: Sequence[Sample], contender: str) -> list[tuple[float, float]]:
    own = [each for each in samples if each.contender == contender]
    # The logarithm of nothing is none: a database can be seen before the document's answer is.
    return [(one.at, max(one.milliseconds, 0.1)) for each in own for phase in PHASES for one in each.singles[phase]]
