"""A listener as a process of its own, with a saboteur in it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import multiprocess

from peruserd.core.cluster.views import View, make_plan
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DeletionConfig
from peruserd.core.processes.messages import Report, decode_from_listener, encode
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect, settings_of, tokens_of
from tests.listener.forking import forked_listener
from tests.sabotage import Constants, Saboteur, is_lasting, orders
from tests.starting import listener_start
from tests.waiting import PATIENCE_SECONDS, eventually

THREADS = {"auditor", "deletions", "disk", "follower", "parent-watch", "prober", "scanner", "worker-1"}
"""All threads that a listener has once it has caught up."""


class Child:
    """A listener, with a saboteur in it. The functions `holds` are held up from the beginning."""

    def __init__(
        self,
        cluster: SimClusterThread,
        directory: Path,
        name: str,
        constants: Constants,
        holds: Sequence[str] = (),
    ) -> None:
        node = cluster.node_names[0]
        couchdb, credentials = settings_of(cluster.urls[0])
        shard_map = connect(cluster.urls[0]).shard_map("_local", "_users")
        start = listener_start(
            make_plan(View((node,), (node,), shard_map), node).assignments[0],
            instance=node,
            # A thread that waits for an answer notices a fault after this time.
            couchdb=type(couchdb)(url=couchdb.url, long_poll_timeout=1.0),
            token=tokens_of(credentials).current,
            deletion=DeletionConfig(policy=DeletionPolicy.DROP),
            state_file=str(directory / f"{name}.sqlite"),
        )
        self._pipe, theirs = multiprocess.Pipe(duplex=True)
        path = directory / f"{name}.sabotage"
        self.process: Any = forked_listener(encode(start), theirs, orders(path, constants, holds))
        self.process.start()
        theirs.close()
        self._reported: Report | None = None
        self.saboteur = Saboteur(path)

    def wait(self) -> None:
        """Wait until it has caught up and has all its threads."""
        eventually(self._has_caught_up, "the listener has caught up")
        eventually(lambda: self.lasting() >= THREADS, "all its threads have started")

    def lasting(self) -> set[str]:
        """Return the names of its lasting threads."""
        return {each for each in self.saboteur.threads() if is_lasting(each)}

    def exit_code(self) -> int | None:
        """Wait for its end; return its exit code."""
        self.process.join(PATIENCE_SECONDS)
        code: int | None = self.process.exitcode
        return code

    def end(self) -> None:
        """End its process and close its pipe."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self._pipe.close()

    @property
    def report(self) -> Report | None:
        """Return its newest report; None before the first one."""
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                message = decode_from_listener(self._pipe.recv_bytes())
                if isinstance(message, Report):
                    self._reported = message
        return self._reported

    @property
    def rounds(self) -> int:
        """Return how many rounds it has reported."""
        report = self.report
        return 0 if report is None else report.rounds

    def _has_caught_up(self) -> bool:
        report = self.report
        return report is not None and report.caught_up
