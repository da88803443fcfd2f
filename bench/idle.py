"""The benchmark `idle`: what an instance costs while nothing happens: processor time, memory, requests.

One instance beside one node, all users served, and then silence. Memory is what a process has for itself (USS): of what
is shared, as listeners share with the fork server, every process' resident memory has all.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Final

import msgspec

from bench.results import Chart, Figure, Options, Result, Table
from bench.rig.cluster import PREFIX, Cluster, ClusterError, open_cluster
from bench.rig.daemons import SETTLING_SECONDS, daemons
from bench.rig.progress import steps
from peruserd.demo.instances import Instance
from peruserd.simcluster import ClusterOptions

RANGES: Final = (2, 8, 64)
SECONDS: Final = 60.0

_USERS: Final = 20

_QUICK: Final = 10.0

MAX_PERCENT: Final = 0.5
MAX_MIB: Final = 20.0

SUPERVISOR: Final = "supervisor"
FORK_SERVER: Final = "fork server"
TRACKER: Final = "resource tracker"
LISTENER: Final = "listener"
ROLES: Final = (SUPERVISOR, FORK_SERVER, TRACKER, LISTENER)

_MIB: Final = 2**20


class Process(msgspec.Struct, frozen=True):
    """One process of an instance: the processor time it used in the silence, and the memory it had at its end."""

    role: str
    seconds: float
    uss_mib: float
    rss_mib: float


class Sample(msgspec.Struct, frozen=True):
    """An instance with so many listeners, silent for so long. `requests` are by method and kind, where counted."""

    listeners: int
    seconds: float
    processes: list[Process]
    requests: dict[str, int] | None = None

    @property
    def requests_a_minute(self) -> float | None:
        """Return the mean; None where nobody counted."""
        return None if self.requests is None else sum(self.requests.values()) * 60 / self.seconds

    @property
    def percent(self) -> float:
        """Return the processor time of all processes, in per cent of a core."""
        return sum(percent(self).values())


def run(options: Options) -> Result:
    """Measure; a real cluster is measured with the ranges that it has."""
    seconds = _QUICK if options.quick else SECONDS
    ranges = (None,) if options.cluster else RANGES[:1] if options.quick else RANGES
    samples = []
    with steps("idle", len(ranges)) as progress:
        for each in ranges:
            progress.step("the ranges it has" if each is None else f"{each} ranges")
            with open_cluster(options.cluster, ClusterOptions(nodes=1, q=each or 1, n=1)) as cluster:
                version = cluster.version()
                samples.append(measure(cluster, seconds, stable_view=_QUICK / 2 if options.quick else SETTLING_SECONDS))
    return result(options, version, samples)


def measure(cluster: Cluster, seconds: float, *, stable_view: float) -> Sample:
    """Let an instance beside the first node serve some users, and watch it while it has nothing to do."""
    if cluster.sim is not None:
        cluster.sim.seed_users(_USERS, provisioned_prefix=PREFIX)
    with daemons(cluster) as instances:
        instances.start([0])
        instances.wait_until_settled()
        time.sleep(stable_view)
        instance = instances.all[0]
        if cluster.sim is not None:
            cluster.sim.clear_requests()
        begin, before = time.monotonic(), _used(instance)
        time.sleep(seconds)
        taken, after = time.monotonic() - begin, _used(instance)
        requests = None if cluster.sim is None else _counted(cluster.sim.requests())
        if before.keys() != after.keys():
            raise ClusterError(f"processes came or went in the silence:\n{instance.last_lines()}")
        processes = list(_processes(instance, {pid: after[pid] - before[pid] for pid in after}))
    return Sample(sum(each.role == LISTENER for each in processes), taken, processes, requests)


def role(parent: int, supervisor: int, command: str) -> str:
    """Return what a descendant of the supervisor is, by its parent's process id and its own command line.

    Listeners are children of the fork server and bear its command line; `multiprocess` starts the other two.
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


def result(options: Options, version: str, samples: Sequence[Sample]) -> Result:
    """Return all that was found, as tables and charts."""
    least = samples[0]
    return Result(
        name="idle",
        parameters={"cluster": version, "quick": options.quick},
        samples={"runs": samples},
        tables=(
            Table(
                f"Processor time of an instance, idle for {least.seconds:.0f} s, {version}: % of a core",
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
        figures=figures(samples),
    )


def figures(samples: Iterable[Sample]) -> dict[str, Figure]:
    """Return what runs are compared by; the goal of processor time is that of the fewest listeners."""
    samples = list(samples)
    made: dict[str, Figure] = {}
    for each in samples:
        named = f", {each.listeners} listeners"
        goal = MAX_PERCENT if each is samples[0] else None
        made["processor time" + named] = Figure((each.percent,), "% of a core", "lower", goal)
        made["memory of the largest listener" + named] = Figure((memory(each, LISTENER)[1],), "MiB", "lower", MAX_MIB)
        if each.requests_a_minute is not None:
            made["requests a minute" + named] = Figure((each.requests_a_minute,), "", "lower")
    return made


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
