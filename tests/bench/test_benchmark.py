"""The frame of all benchmarks, with a benchmark that measures nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

import pytest

from bench import __main__ as bench
from bench import benchmark
from bench.benchmark import Options, Setting, run
from bench.harness.cluster import Cluster, ClusterError
from bench.harness.progress import Steps
from bench.results import Figure, Report, Table
from peruserd.core.configuration.config import ClusterConfig
from peruserd.simcluster import ClusterOptions

TWO_SIZES = (ClusterOptions(nodes=1, n=1), ClusterOptions(nodes=3))


class Course(benchmark.Course, frozen=True, kw_only=True):
    simulated: tuple[ClusterOptions, ...] = TWO_SIZES
    users: int = 7


class Example:
    """A benchmark that gives the number of its cluster, and the number of nodes if it asks for the cluster."""

    def __init__(self, *, asks: bool = True) -> None:
        self._asks = asks

    def course(self, options: Options) -> Course:
        return Course(users=3) if options.quick else Course(settings=ClusterConfig())

    def measure(self, setting: Setting, course: Course, steps: Steps) -> Iterator[tuple[int, int]]:
        steps.expect(2)
        steps.step(f"{course.users} users")
        yield setting.number, len(setting.cluster.nodes) if self._asks else 0
        steps.step("the end")

    def figures(self, samples: Sequence[tuple[int, int]]) -> dict[str, Figure]:
        return {"nodes": Figure(tuple(float(nodes) for _, nodes in samples), "", "higher")}

    def report(self, course: Course, samples: Sequence[tuple[int, int]]) -> Report:
        return Report((Table("Clusters", ("users", "clusters"), ((str(course.users), str(len(samples))),)),))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for clusters; return what was opened and closed, in order."""
    events: list[str] = []

    @contextmanager
    def open_cluster(urls: Sequence[str], simulated: ClusterOptions) -> Iterator[Cluster]:
        name = urls[0] if urls else f"{simulated.nodes} simulated"
        events.append(f"open {name}")
        nodes = [f"node{number}" for number in range(len(urls) or simulated.nodes)]
        try:
            yield mock.Mock(spec=Cluster, nodes=nodes, version=lambda: "CouchDB 3.5.0")
        finally:
            events.append(f"close {name}")

    monkeypatch.setattr(benchmark, "open_cluster", open_cluster)
    return events


def test_each_simulated_cluster_is_measured_by_itself(opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One is closed before the next is opened, and the steps of all are counted together."""
    result = run("example", Example(), Options(quick=True))
    assert result.samples == [(0, 1), (1, 3)]
    assert opened == ["open 1 simulated", "close 1 simulated", "open 3 simulated", "close 3 simulated"]
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]


def test_a_given_cluster_is_measured_once(opened: list[str]) -> None:
    """The simulated clusters of the course do not count then."""
    result = run("example", Example(), Options(quick=True, cluster=("http://a", "http://b")))
    assert result.samples == [(0, 2)]
    assert opened == ["open http://a", "close http://a"]


def test_a_benchmark_that_asks_for_no_cluster_gets_none(opened: list[str]) -> None:
    """Nothing is started for it, and the result says nothing about a cluster."""
    result = run("example", Example(asks=False), Options(quick=True))
    assert not opened
    assert result.parameters == {"quick": True, "users": 3}
    assert result.heading() == "## example"


def test_a_result_has_the_numbers_of_its_course(opened: list[str]) -> None:
    """The parameters are the numbers of the measurement. Settings are missing where the defaults decide."""
    quick, whole = (run("example", Example(), Options(quick=quick)) for quick in (True, False))
    assert opened
    assert quick.parameters == {"quick": True, "cluster": "CouchDB 3.5.0", "nodes": 3, "users": 3}
    assert whole.parameters == {**quick.parameters, "quick": False, "users": 7, "settings": ClusterConfig()}
    assert quick.heading() == "## example, CouchDB 3.5.0 with 3 nodes"
    assert quick.figures["nodes"].values == (1.0, 3.0)
    assert quick.report.tables[0].rows == (("3", "2"),)


def test_a_measurement_that_fails_leaves_no_cluster_open(opened: list[str]) -> None:
    """The error reaches the caller."""
    failing = Example()
    with (
        mock.patch.object(failing, "measure", side_effect=_fail),
        pytest.raises(ClusterError, match="halfway"),
    ):
        run("example", failing, Options(quick=True))
    assert opened == ["open 1 simulated", "close 1 simulated"]


def _fail(setting: Setting, course: Course, steps: Steps) -> Iterator[tuple[int, int]]:
    yield 0, len(setting.cluster.nodes)
    raise ClusterError(f"halfway: {course.users} {steps}")


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_a_benchmark_is_a_module_of_its_own_name(name: str) -> None:
    """So its code is found by the name on the command line; a quick run has a size of its own."""
    module = bench.BENCHMARKS[name]
    assert isinstance(module, ModuleType)
    assert module.__name__ == f"bench.{name}"
    quick, whole = (module.course(Options(quick=quick)) for quick in (True, False))
    assert quick != whole
    assert quick.simulated
