"""The demo from beginning to end: cluster, instances, sign-ups, a killed listener, the final check."""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import requests

from peruserd.demo.audit import Audit, audit
from peruserd.demo.instances import Instance, Instances, Samples
from peruserd.demo.show import ListenerPicture, Picture, Show
from peruserd.demo.signups import SignUps, names
from peruserd.simcluster import ClusterOptions, SimClusterProcess

PREFIX: Final = "userdb-"

# The longest wait for any step that takes seconds; after it the demo fails, and says what it waited for.
_PATIENCE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.2


class Options(msgspec.Struct, frozen=True):
    """The options of the demo. `once` ends it when all are served, instead of on ^C."""

    nodes: int
    q: int
    users: int
    rate: float
    seed: int
    once: bool


class Result(msgspec.Struct, frozen=True):
    """The outcome; `wrong` lists the faults."""

    users: int
    provisioned: int
    secured: int
    p50_ms: float | None
    p99_ms: float | None
    listener_restarts: int
    seconds: float
    wrong: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Say whether every user has a correct database."""
        return not self.wrong and self.users == self.provisioned == self.secured


class TimedOutError(Exception):
    """An expected event did not happen in time."""


def play(options: Options, show: Show) -> Result:
    """Run the demo; raises InstanceFailedError, TimedOutError, and what the cluster's start raises."""
    cluster_options = ClusterOptions(nodes=options.nodes, q=options.q, n=min(3, options.nodes), seed=options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="peruserd-demo-") as directory,
        show,
        SimClusterProcess(cluster_options) as cluster,
    ):
        show.show_event(f"simulated cluster: {options.nodes} nodes, {options.q} ranges")
        with Instances(cluster.urls, cluster.node_names, Path(directory)) as instances:
            return _Play(options, show, cluster, instances).run()


class _Play:
    def __init__(self, options: Options, show: Show, cluster: SimClusterProcess, instances: Instances) -> None:
        self._options = options
        self._show = show
        self._cluster = cluster
        self._instances = instances
        self._signups = SignUps(cluster.urls, PREFIX)
        self._began = time.monotonic()

    def run(self) -> Result:
        self._wait("the instances to be ready", self._all_ready)
        for each in self._instances.all:
            self._show.show_event(f"status page of {each.node}: {each.page}")
        self._show.show_event("all instances are ready; users begin to sign up")
        self._began = time.monotonic()
        self._signups.start(list(names(self._options.users, self._options.seed)), self._options.rate)
        try:
            self._wait("half of the users to sign up", self._half_signed_up)
            killed = self._kill_a_listener()
            self._wait("every user to be served", self._all_served)
            self._wait("the killed listener to come back", lambda: self._is_back(killed))
            took = time.monotonic() - self._began
            self._show.show_event("every user is served")
            if not self._options.once:
                self._linger()
        finally:
            self._signups.stop()
        return self._result(audit(self._cluster, self._signups.signed_up, PREFIX), took)

    def _kill_a_listener(self) -> Instance:
        chance = random.Random(self._options.seed)  # noqa: S311 - which one does not matter, only that it repeats
        instance = chance.choice(self._instances.all)
        pid = chance.choice(instance.listener_pids())
        os.kill(pid, signal.SIGKILL)
        self._show.show_event(f"killed a listener of {instance.node} (process {pid}) with SIGKILL")
        return instance

    def _is_back(self, instance: Instance) -> bool:
        restarts = _sum(instance.samples(), "peruserd_listener_restarts_total")
        if restarts and instance.is_ready():
            self._show.show_event(f"the listener of {instance.node} is back")
            return True
        return False

    def _linger(self) -> None:
        pages = f"{self._cluster.urls[0]} and {self._instances.all[0].page}"
        self._show.show_event(f"look around at {pages}; end with ^C")
        try:
            while True:
                self._instances.check()
                self._draw()
                time.sleep(_LOOK_SECONDS)
        except KeyboardInterrupt:
            return

    def _wait(self, what: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS + self._options.users / self._options.rate
        while not self._look(happened):
            if time.monotonic() > deadline:
                logs = "\n".join(each.last_lines() for each in self._instances.all)
                raise TimedOutError(f"waited in vain for {what}; the instances' last lines:\n{logs}")
            time.sleep(_LOOK_SECONDS)

    def _look(self, happened: Callable[[], bool]) -> bool:
        self._instances.check()
        self._signups.check()
        self._draw()
        try:
            return happened()
        except requests.RequestException:
            # A page that does not answer under load answers the next time. `check` notices an instance that has ended.
            return False

    def _all_ready(self) -> bool:
        return all(each.is_ready() for each in self._instances.all)

    def _half_signed_up(self) -> bool:
        return len(self._signups.signed_up) >= self._options.users / 2

    def _all_served(self) -> bool:
        return len(self._signups.signed_up) == self._options.users and not self._signups.waiting

    def _draw(self) -> None:
        try:
            samples = {each.node: each.samples() for each in self._instances.all}
        except requests.RequestException:
            return
        self._show.draw(
            Picture(
                seconds=time.monotonic() - self._began,
                signed_up=len(self._signups.signed_up),
                users=self._options.users,
                served=len(self._signups.latencies),
                p50_ms=self._signups.percentile_ms(50),
                p99_ms=self._signups.percentile_ms(99),
                listeners=tuple(each for node, found in samples.items() for each in _listeners(node, found)),
                owned={node: int(_sum(found, "peruserd_changes_owned_total")) for node, found in samples.items()},
                created={node: int(_sum(found, "peruserd_databases_created_total")) for node, found in samples.items()},
            )
        )

    def _result(self, found: Audit, seconds: float) -> Result:
        return Result(
            users=len(self._signups.signed_up),
            provisioned=found.provisioned,
            secured=found.secured,
            p50_ms=_rounded(self._signups.percentile_ms(50)),
            p99_ms=_rounded(self._signups.percentile_ms(99)),
            listener_restarts=int(self._instances.total("peruserd_listener_restarts_total")),
            seconds=round(seconds, 2),
            wrong=found.wrong,
        )


def _listeners(node: str, samples: Samples) -> list[ListenerPicture]:
    states = {
        labels["listener"]: labels["state"] for labels, value in samples.get("peruserd_listener_state", []) if value
    }

    def gauge(name: str, listener: str) -> int:
        return next((int(value) for labels, value in samples.get(name, []) if labels["listener"] == listener), 0)

    return [
        ListenerPicture(
            range=listener.partition("@")[0],
            instance=node,
            state=state,
            caught_up=bool(gauge("peruserd_listener_caught_up", listener)),
            checkpoint=gauge("peruserd_checkpoint_sequence", listener),
            waiting=gauge("peruserd_listener_waiting", listener),
            restarts=gauge("peruserd_listener_restarts_total", listener),
        )
        for listener, state in states.items()
    ]


def _sum(samples: Samples, name: str) -> float:
    return sum(value for _, value in samples.get(name, []))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
