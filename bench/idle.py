"""The benchmark `idle`: the processor time, memory and requests of an instance while nothing happens.

One instance runs beside one node, serves all its users, and then has nothing to do. Memory is what a process has for
itself (USS). Resident memory would count shared pages once for every process, and listeners share many with the fork
server.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Final

import msgspec

from bench import benchmark
from bench.benchmark import Options, Setting
from bench.harness.cluster import PREFIX, ClusterError
from bench.harness.daemons import START_WORK_SECONDS
from bench.harness.progress import Steps
from bench.results import Chart, Figure, Report, Table
from peruserd.demo.instances import Instance
from peruserd.simcluster import ClusterOptions

_USERS: Final = 20

MAX_PERCENT: Final = 0.5
MAX_MIB: Final = 20.0

SUPERVISOR: Final = "supervisor"
FORK_SERVER: Final = "fork server"
TRACKER: Final = "resource tracker"
LISTENER: Final = "listener"
ROLES: Final = (SUPERVISOR, FORK_SERVER, TRACKER, LISTENER)

_MIB: Final = 2**20


def _one_node(ranges: int) -> ClusterOptions:
    return ClusterOptions(nodes=1, q=ranges, n=1)


class Course(benchmark.Course, frozen=True, kw_only=True):
    """The measured seconds, and the seconds before them in which the instance ends the work of its start.

    A real cluster is measured with the ranges that it has.
    """

    simulated: tuple[ClusterOptions, ...] = (_one_node(2), _one_node(8), _one_node(64))
    seconds: float = 60.0
    start_work_seconds: float = START_WORK_SECONDS


QUICK: Final = Course(simulated=(_one_node(2),), seconds=10.0, start_work_seconds=5.0)


class Process(msgspec.Struct, frozen=True):
    """One process of an instance: the processor time that it used while idle, and its memory at the end."""

    role: str
    seconds: float
    uss_mib: float
    rss_mib: float


class Sample(msgspec.Struct, frozen=True):
    """An instance with so many listeners, idle for so long. `requests` are by method and kind, where counted."""

    listeners: int
    seconds: float
    processes: list[Process]
    requests: dict[str, int] | None = None

    @property
    def requests_a_minute(self) -> float | None:
        """Return the mean; None where requests were not counted."""
        return None if self.requests is None else sum(self.requests.values()) * 60 / self.seconds

    @property
    def percent(self) -> float:
        """Return the processor time of all processes, in per cent of a core."""
        return sum(percent(self).values())


def course(options: Options) -> Course:
    """Return the size of the run."""
    return QUICK if options.quick else Course()


def measure(setting: Setting, course: Course, steps: Steps) -> Iterator[Sample]:
    """Let an instance beside the first node serve some users, and watch it while it has nothing to do."""
    sim = setting.cluster.sim
    steps.expect(1)
    steps.step("the ranges of the cluster" if sim is None else f"{sim.options.q} ranges")
    if sim is not None:
        sim.seed_users(_USERS, provisioned_prefix=PREFIX)
    setting.instances.start([0])
    setting.instances.wait_until_settled()
    time.sleep(course.start_work_seconds)
    instance = setting.instances.all[0]
    if sim is not None:
        sim.clear_requests()
    begin, before = time.monotonic(), _used(instance)
    time.sleep(course.seconds)
    taken, after = time.monotonic() - begin, _used(instance)
    requests = None if sim is None else _counted(sim.requests())
    if before.keys() != after.keys():
        raise ClusterError(f"processes came or went while the instance was idle:\n{instance.last_lines()}")
    processes = list(_processes(instance, {pid: after[pid] - before[pid] for pid in after}))
    yield Sample(sum(each.role == LISTENER for each in processes), taken, processes, requests)


def role(parent: int, supervisor: int, command: str) -> str:
    """Return the role of a descendant of the supervisor, by its parent's process id and its own command line.

    A listener is a child of the fork server, and has the command line of the fork server. `multiprocess` starts the
    other two as children of the supervisor.
    """
    if parent != supervisor:
        return LISTENER
    if "resource_tracker" in command:
        return TRACKER
    return FORK_SERVER if "forkserver" in command else LISTENER


def percent(sample: Sample) -> dict[str, float]:
    """Return the processor time by role, in per cent of a core."""
    return {
        name: 100 * sum(each.seconds for each in sample.processes if each.role == name) / sample.seconds
        for name in ROLES
    }


def memory(sample: Sample, name: str) -> tuple[float, float]:
    """Return the mean and the largest USS of the processes of a role, in MiB; 0 where there is none."""
    found = [each.uss_mib for each in sample.processes if each.role == name] or [0.0]
    return mean(found), max(found)


def _used(instance: Instance) -> dict[int, float]:
    used = {}
    for process in instance.processes():
        times = process.cpu_times()
        used[process.pid] = float(times.user + times.system)
    return used


def _processes(instance: Instance, used: Mapping[int, float]) -> Iterator[Process]:
    own, *others = instance.processes()
    roles = {own.pid: SUPERVISOR}
    roles |= {each.pid: role(each.ppid(), own.pid, " ".join(each.cmdline())) for each in others}
    for each in (own, *others):
        memory_info = each.memory_full_info()
        yield Process(roles[each.pid], used[each.pid], memory_info.uss / _MIB, memory_info.rss / _MIB)


def _counted(requests: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for (_, method, kind), number in requests.items():
        counted[f"{method} {kind}"] += number
    return dict(counted.most_common())


def figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return the three costs by the number of listeners; the goal of processor time is that of the fewest listeners."""
    found: dict[str, Figure] = {}
    for each in samples:
        named = f", {each.listeners} listeners"
        goal = MAX_PERCENT if each is samples[0] else None
        found["processor time" + named] = Figure((each.percent,), "% of a core", "lower", goal)
        found["memory of the largest listener" + named] = Figure((memory(each, LISTENER)[1],), "MiB", "lower", MAX_MIB)
        if each.requests_a_minute is not None:
            found["requests a minute" + named] = Figure((each.requests_a_minute,), "", "lower")
    return found


def report(course: Course, samples: Sequence[Sample]) -> Report:
    """Return the three costs by the number of listeners as tables, and two of them as charts."""
    return Report(
        tables=(
            Table(
                f"Processor time of an instance, idle for {course.seconds:.0f} s: % of a core",
                ("listeners", *ROLES[:-1], "all listeners", "all"),
                tuple(_time_row(each) for each in samples),
            ),
            Table(
                "Memory that its processes have for themselves (USS): MiB",
                ("listeners", *ROLES[:-1], "listener, mean", "listener, largest", "all"),
                tuple(_memory_row(each) for each in samples),
            ),
            *_requests_tables(samples),
        ),
        charts=(
            _chart("processor time, idle", "% of a core", samples, lambda each: each.percent),
            _chart(
                "memory of an instance (USS)", "MiB", samples, lambda each: sum(one.uss_mib for one in each.processes)
            ),
        ),
    )


def _time_row(sample: Sample) -> tuple[str, ...]:
    return (str(sample.listeners), *(f"{used:.2f}" for used in percent(sample).values()), f"{sample.percent:.2f}")


def _memory_row(sample: Sample) -> tuple[str, ...]:
    others = [f"{memory(sample, name)[1]:.1f}" for name in ROLES[:-1]]
    mean_mib, largest = memory(sample, LISTENER)
    everything = sum(each.uss_mib for each in sample.processes)
    return (str(sample.listeners), *others, f"{mean_mib:.1f}", f"{largest:.1f}", f"{everything:.0f}")


def _requests_tables(samples: Sequence[Sample]) -> Iterator[Table]:
    counted = [(each, each.requests) for each in samples if each.requests is not None]
    if not counted:
        return
    kinds = list(dict.fromkeys(kind for _, requests in counted for kind in requests))
    yield Table(
        "Requests to the server a minute",
        ("listeners", *kinds, "all"),
        tuple(
            (
                str(each.listeners),
                *(f"{requests.get(kind, 0) * 60 / each.seconds:.1f}" for kind in kinds),
                f"{each.requests_a_minute:.1f}",
            )
            for each, requests in counted
        ),
    )


def _chart(title: str, unit: str, samples: Sequence[Sample], value: Callable[[Sample], float]) -> Chart:
    return Chart(title, "listeners", unit, {"instance": [(float(each.listeners), value(each)) for each in samples]})
