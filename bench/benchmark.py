"""The frame of all benchmarks: what a benchmark is, where it measures, and how its result is made.

A benchmark is a module, or a package, with the four functions of `Benchmark`. A benchmark has only its own parts: the
size of a run, the measurement, the figures and the tables. The frame opens the cluster, shows the progress and makes
the result.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from bench.harness.cluster import Cluster, open_cluster
from bench.harness.daemons import Daemons, daemons
from bench.harness.progress import Steps, steps
from bench.results import Figure, Report, Result
from peruserd.core.configuration.config import ClusterConfig
from peruserd.simcluster import ClusterOptions

# Fields of a course that say where it is measured, and nothing about what.
_PLACE: Final = ("simulated",)


class Options(msgspec.Struct, frozen=True):
    """The options of a run. `cluster` are the URLs of its nodes; without any, a cluster is simulated.

    `beside` is another checkout of peruserd, for a benchmark that measures two in turns. `users` replaces the number of
    users of a benchmark that leaves it open.
    """

    quick: bool
    cluster: tuple[str, ...] = ()
    beside: Path | None = None
    users: int | None = None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a run. Every benchmark adds its own numbers, and the result keeps all of them as parameters.

    `simulated` are clusters to simulate, one after the other; a cluster that was given is measured once instead.
    `settings` are the cluster settings of the instances. Without them, the environment and the defaults decide.
    """

    simulated: tuple[ClusterOptions, ...] = (ClusterOptions(),)
    settings: ClusterConfig | None = None


C = TypeVar("C", bound=Course)
S = TypeVar("S")


class Setting:
    """The place of a measurement: a cluster, and the instances beside it. Each is made when it is first asked for.

    `number` counts the simulated clusters of the course, from 0. On a given cluster `number` is 0.
    """

    def __init__(self, options: Options, course: Course, number: int, stack: ExitStack) -> None:
        self.number = number
        self._options = options
        self._course = course
        self._stack = stack
        self._is_open = False

    @cached_property
    def cluster(self) -> Cluster:
        """Return the cluster. At the end of the measurement it has nothing left of the run."""
        opened = self._stack.enter_context(open_cluster(self._options.cluster, self._course.simulated[self.number]))
        self._is_open = True
        return opened

    @cached_property
    def instances(self) -> Daemons:
        """Return the instances, which are yet to be started. At the end of the measurement they are stopped."""
        return self._stack.enter_context(daemons(self.cluster, self._course.settings))

    @cached_property
    def other_instances(self) -> Daemons | None:
        """Return instances of the other checkout, in the same way; None where no checkout was given."""
        if self._options.beside is None:
            return None
        return self._stack.enter_context(daemons(self.cluster, self._course.settings, self._options.beside))

    def facts(self) -> dict[str, Any]:
        """Return the server and the number of nodes; nothing where the benchmark never asked for the cluster."""
        return {"cluster": self.cluster.version(), "nodes": len(self.cluster.nodes)} if self._is_open else {}


class Benchmark(Protocol[C, S]):
    """One benchmark. Its samples are kept as they are, and all that is shown follows from them."""

    def course(self, options: Options) -> C:
        """Return the size of the run."""

    def measure(self, setting: Setting, course: C, steps: Steps) -> Iterable[S]:
        """Measure on one cluster; give each sample as soon as it is taken."""

    def figures(self, samples: Sequence[S]) -> dict[str, Figure]:
        """Return the figures by which two runs are compared, by name."""

    def report(self, course: C, samples: Sequence[S]) -> Report:
        """Return the tables and the charts."""


def run(name: str, benchmark: Benchmark[C, S], options: Options) -> Result:
    """Run a benchmark on the given cluster, or on each simulated one of its course."""
    course = benchmark.course(options)
    clusters = 1 if options.cluster else len(course.simulated)
    facts: dict[str, Any] = {}
    samples: list[S] = []
    with steps(name, clusters) as progress:
        for number in range(clusters):
            with ExitStack() as stack:
                setting = Setting(options, course, number, stack)
                samples += benchmark.measure(setting, course, progress)
                facts = setting.facts()
    return result(name, benchmark, course, samples, {"quick": options.quick, **facts})


def result(name: str, benchmark: Benchmark[C, S], course: C, samples: Sequence[S], facts: dict[str, Any]) -> Result:
    """Return the result of a run. Its parameters are some facts about the run, and the numbers of the course."""
    numbers = {key: value for key, value in msgspec.structs.asdict(course).items() if key not in _PLACE}
    return Result(
        name=name,
        parameters={**facts, **{key: value for key, value in numbers.items() if value is not None}},
        samples=list(samples),
        report=benchmark.report(course, samples),
        figures=benchmark.figures(samples),
    )
