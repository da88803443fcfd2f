"""The measured instances: `peruserd run` beside each node, with state directories that outlive a stop."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil
import requests

from bench.harness.cluster import Cluster, ClusterError
from peruserd.core.configuration.config import ClusterConfig
from peruserd.demo.instances import Instance

_READY_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.1

START_WORK_SECONDS: Final = 12.0
"""The work of a start is over then: the first renewals of a lease, which are quick, and a listener's first poll."""

QUICK_CLUSTER: Final = ClusterConfig(poll_interval=0.3, quiet_period=0.5, lease_interval=0.4, lease_ttl=3.0)
"""The settings of a `--quick` run: with the defaults, it would mostly wait for starts and stops."""


class Daemons:
    """An instance beside each of some nodes. `all` are the running ones, and `directory` has the state of each.

    The instances run the installed package, or the package of the checkout `code`.
    """

    def __init__(
        self, cluster: Cluster, directory: Path, config: ClusterConfig | None = None, code: Path | None = None
    ) -> None:
        self._cluster = cluster
        self._directory = directory
        self._settings = {**({} if config is None else settings(config)), **({} if code is None else another(code))}
        self.all: list[Instance] = []

    def start(self, numbers: Sequence[int] | None = None) -> None:
        """Start the instances of some nodes (counted from 0; all by default), and return when each has started."""
        urls, nodes = self._cluster.urls_with_credentials, self._cluster.nodes
        running = len(self.all)
        for number in range(len(nodes)) if numbers is None else numbers:
            # Each is noted at once, because only a noted instance is stopped where the next one cannot be started.
            self.all.append(Instance(urls[number], nodes[number], self._directory, self._settings))
        for each in self.all[running:]:
            each.wait_until_up()

    def stop(self) -> None:
        """Stop all of them."""
        stopped, self.all = self.all, []
        for each in stopped:
            each.terminate()
        for each in stopped:
            each.wait()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all of them while the context lasts, and begin it when they are settled."""
        self.start()
        try:
            self.wait_until_settled()
            yield
        finally:
            self.stop()

    def forget(self) -> None:
        """Remove the state of all instances; none may be running."""
        for node in self._cluster.nodes:
            shutil.rmtree(self._directory / node)

    def kill(self, number: int) -> None:
        """Kill the instance of a node with all its processes, as the failure of a machine does."""
        node = self._cluster.nodes[number]
        killed = next(each for each in self.all if each.node == node)
        self.all.remove(killed)
        killed.kill()

    def wait_until_settled(self) -> None:
        """Wait until each has caught up, no scan goes on, and all know of each other; raises ClusterError."""
        self.wait(self._settled, "the instances to be ready, to end their scans and to know of each other")

    def wait_until_ready(self) -> None:
        """Wait until each has caught up; raises ClusterError."""
        self.wait(lambda: all(each.is_ready() for each in self.all), "the instances to be ready")

    def wait(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something has happened to the instances; raises ClusterError when it takes too long."""
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answer(happened):
            for each in self.all:
                each.check()
            if time.monotonic() > deadline:
                logs = "\n".join(each.last_lines() for each in self.all)
                raise ClusterError(f"waited in vain for {what}; the instances' last lines:\n{logs}")
            time.sleep(_LOOK_SECONDS)

    def total(self, name: str) -> float:
        """Return a counter summed over labels and instances."""
        return sum(value for each in self.all for _, value in each.samples().get(name, []))

    def processor_seconds(self) -> float:
        """Return the processor time that all processes of all instances have used so far."""
        return sum(_processor_seconds(process) for each in self.all for process in each.processes())

    def _settled(self) -> bool:
        rests = all(each.is_ready() and self._believes_in(each) == len(self.all) for each in self.all)
        return rests and not self.total("peruserd_listener_scanning")

    def _believes_in(self, instance: Instance) -> int:
        return int(sum(value for _, value in instance.samples().get("peruserd_instances_alive", [])))

    def _answer(self, happened: Callable[[], bool]) -> bool:
        try:
            return happened()
        except requests.RequestException:
            # An instance under load may not answer at once; the next try comes soon.
            return False


def settings(config: ClusterConfig) -> Mapping[str, str]:
    """Return the environment variables of these settings."""
    values = msgspec.structs.asdict(config).items()
    return {
        f"PERUSERD_CLUSTER_{key.upper()}": value if isinstance(value, str) else f"{value:g}" for key, value in values
    }


def another(code: Path) -> Mapping[str, str]:
    """Return the environment variables with which Python runs the package of another checkout."""
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(code.resolve())}


@contextmanager
def daemons(cluster: Cluster, config: ClusterConfig | None = None, code: Path | None = None) -> Iterator[Daemons]:
    """Give instances that are yet to be started. At the end they are stopped, and their state is removed.

    Without a `config` their settings are those of the environment and the defaults.
    """
    with tempfile.TemporaryDirectory(prefix="peruserd-bench-") as directory:
        made = Daemons(cluster, Path(directory), config, code)
        try:
            yield made
        finally:
            made.stop()


def _processor_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
