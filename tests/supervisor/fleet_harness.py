"""A fleet on a simulated cluster, for tests, with a small loop in place of the supervisor's."""

import select
import time
from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import Final

from peruserd.core.cluster.views import Copy, Plan, View, make_plan
from peruserd.core.common.backoff import Backoff
from peruserd.core.processes.lifecycle import Timing
from peruserd.core.processes.messages import ListenerStart, Reauthenticate, Stage, Token
from peruserd.core.processes.restarts import RestartBudget
from peruserd.couch.client import Client
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.listener import Conditions, ListenerStatus
from peruserd.supervisor.start_request import StartRequest
from tests.couch.connecting import settings_of, tokens_of
from tests.starting import listener_start
from tests.waiting import PATIENCE_SECONDS

ME: Final = "node1@127.0.0.1"
QUICK: Final = Timing(stop_seconds=5.0, abort_seconds=0.5, backoff=Backoff(initial_seconds=0.05, max_seconds=0.2))


class FixedGatekeeper:
    """A gatekeeper with a fixed token, which notes the checks."""

    def __init__(self, token: Token | None) -> None:
        self.token = token
        self.checks: list[tuple[Hashable, int, str | None]] = []

    def check_token(self, who: Hashable, number: int, node: str | None) -> None:
        """Note a check."""
        self.checks.append((who, number, node))

    def state(self) -> Reauthenticate:
        """Return the fixed token."""
        return Reauthenticate(self.token)


class FleetHarness:
    """A fleet on a cluster, with a small loop in place of the supervisor's.

    The harness has the fleet's clock and can put it forward, so no test waits for a deadline.
    """

    def __init__(self, cluster: SimClusterThread, directory: Path, timing: Timing = QUICK, faults: int = 100) -> None:
        self._ahead_seconds = 0.0
        self.cluster = cluster
        self.directory = directory
        self.couchdb, credentials = settings_of(cluster.urls[0])
        self.token = tokens_of(credentials).current
        self.gatekeeper = FixedGatekeeper(self.token)
        self.fleet = Fleet(
            self._start_message,
            max_in_flight=8,
            timing=timing,
            budget=RestartBudget(faults),
            state_file=self.state_file,
            on_copy_lost=lambda: None,
            gatekeeper=self.gatekeeper,
        )

    def now(self) -> float:
        """Return the time of the fleet's clock, in seconds."""
        return time.monotonic() + self._ahead_seconds

    def skip(self, seconds: float) -> None:
        """Put the fleet's clock forward. Listeners do not notice; messages that they have sent are received first."""
        for copy, _ in self.fleet.processes():
            self.fleet.receive(copy, self.now())
        self._ahead_seconds += seconds

    def start_message(self, index: int = 0) -> ListenerStart:
        """Return the message that starts the listener of one of the plan's copies."""
        return self._start_message(StartRequest(self.plan().assignments[index], Conditions(share=8), resume_near=None))

    def _start_message(self, request: StartRequest) -> ListenerStart:
        return listener_start(
            request.assignment,
            instance=ME,
            couchdb=self.couchdb,
            token=self.token,
            state_file=str(self.state_file(request.assignment.copy)),
            share=request.conditions.share,
            resume_near=request.resume_near,
        )

    def state_file(self, copy: Copy) -> Path:
        """Return where the state of a copy is."""
        return self.directory / f"{copy.range}.sqlite"

    def plan(self) -> Plan:
        """Return the plan of the instance beside node 1."""
        client = Client(Session(self.couchdb, Tokens(self.token)))
        nodes = tuple(sorted(client.membership().all_nodes))
        return make_plan(View(nodes, nodes, client.shard_map(ME, "_users")), ME)

    def turn_until(self, happened: Callable[[], bool], what: str) -> None:
        """Go round, as the supervisor's loop does, until something happened."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.fleet.status()}"
            poll = select.poll()
            owners = {}
            for copy, process in self.fleet.processes():
                for descriptor in (process.pidfd, *([] if process.at_eof else [process.pipe_fd])):
                    owners[descriptor] = (copy, descriptor == process.pidfd)
                    poll.register(descriptor, select.POLLIN)
            ready = [owners[descriptor] for descriptor, _ in poll.poll(50)]
            for copy, is_end in sorted(ready, key=lambda each: each[1]):
                (self.fleet.on_exit if is_end else self.fleet.receive)(copy, self.now())
            self.fleet.run_deadlines(self.now())

    def stop(self) -> None:
        """Stop all listeners and wait for their end."""
        self.fleet.stop(self.now())
        self.turn_until(lambda: self.fleet.idle, "every listener to end")

    def pids(self) -> list[int]:
        """Return the process ids of the listeners."""
        return [each.pid for each in self.fleet.status().listeners if each.pid is not None]

    def status_of(self, copies: Collection[Copy]) -> list[ListenerStatus]:
        """Return the status of the listeners of these copies."""
        return [each for each in self.fleet.status().listeners if each.copy in copies]

    def all_caught_up(self) -> bool:
        """Say whether every listener has caught up."""
        return self.fleet.status().ready

    def has_scanned(self) -> bool:
        """Say whether every listener has caught up, and no scan goes on."""
        reports = [each.report for each in self.fleet.status().listeners]
        return self.all_caught_up() and all(each is not None and each.stage is Stage.FOLLOWING for each in reports)

    def created(self) -> int:
        """Return how many databases the fleet has created."""
        return self.fleet.status().counters.databases_created
