"""Measuring single users before a crowd, while it comes, amidst it and after it.

Single users sign up at a slow and steady rate all the time. The crowd signs up in a few requests. A single user who
signs up between two of these requests cannot be told from the crowd, so such users are counted apart. "Amidst the
crowd" are the single users behind all of it, until its last user is served. Another checkout of peruserd can be
measured as well, in turns on the same cluster.

The latency of a single user is from the answer to the user document until the database is seen to be secured. For the
crowd only the appearance of each database is noted, because reading all their security objects would be a load of its
own. At the end some are read, to see that the crowd is really served.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.crowd.memory import MemoryProbe
from bench.crowd.samples import Crowd, Sample, by_phase
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.contenders import PERUSERD, rotated
from bench.harness.daemons import QUICK_CLUSTER, Daemons
from bench.harness.open_loop import OpenLoop
from bench.harness.progress import Steps
from bench.harness.watch import Watch

OTHER: Final = "the other checkout"

# A contender that has served none of the crowd for so long has stopped serving.
_STUCK_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.25

# The single users are enough for a crowd that is served at this rate, in users a second.
_MIN_RATE: Final = 10.0

# The number of databases of the crowd that are read at the end, the last ones among them.
_MAX_CHECKED: Final = 1_000

_MIB: Final = 2**20


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The size of the crowd, the single users a second, and the seconds before and after the crowd."""

    crowd: int = 20_000
    rate: float = 2.0
    rounds: int = 1
    warm_up: float = 5.0
    before: float = 40.0
    after: float = 30.0


QUICK: Final = Course(crowd=150, rate=10.0, warm_up=0.3, before=1.0, after=1.0, settings=QUICK_CLUSTER)


def course(options: Options) -> Course:
    """Return the size of the run; on a real cluster a crowd of 20,000 takes ten minutes, most of them to remove it."""
    whole = QUICK if options.quick else Course()
    return whole if options.users is None else msgspec.structs.replace(whole, crowd=options.users)


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Let each contender serve a crowd and the single users, in each round."""
    contenders = {PERUSERD: setting.instances}
    if setting.other_instances is not None:
        contenders[OTHER] = setting.other_instances
    steps.expect(course.rounds * len(contenders))
    for number in range(course.rounds):
        # The other checkout comes first, because the second one finds a cluster that was filled and cleaned.
        for contender in rotated(list(contenders)[::-1], number):
            steps.step(f"round {number + 1}: a crowd of {course.crowd:,}, {contender}")
            instances = contenders[contender]
            with instances.running():
                yield _round(setting.cluster, instances, contender, course, number)
            setting.cluster.clean()


def _round(cluster: Cluster, instances: Daemons, contender: str, course: Course, number: int) -> Sample:
    longest = course.warm_up + course.before + course.crowd / _MIN_RATE + course.after
    names = cluster.new_names(int(course.rate * longest))
    crowd = cluster.new_names(course.crowd)
    singles = set(names)
    with (
        Watch(cluster, singles.__contains__) as watch,
        OpenLoop(cluster, names, course.rate, range(len(cluster.urls))) as loop,
        MemoryProbe(instances) as memory,
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
    checked = crowd[:: max(1, course.crowd // _MAX_CHECKED)] + crowd[-_MAX_CHECKED // 10 :]
    if unserved := cluster.unserved(checked):
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
        singles=by_phase(counted, watch.served, Crowd(came, written, served[-1])),
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
