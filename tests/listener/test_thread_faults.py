"""Each thread of a running listener fails or hangs: the listener ends, so that its supervisor starts it again."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import multiprocess
import pytest

from peruserd.core.cluster.views import View, make_plan
from peruserd.core.configuration.choices import DeletionPolicy
from peruserd.core.configuration.config import DeletionConfig
from peruserd.core.processes.messages import Report, decode_from_listener, encode
from peruserd.listener.exit_codes import Exit
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect, settings_of, tokens_of
from tests.listener.forking import forked_listener
from tests.sabotage import Constants, Saboteur, is_lasting, orders
from tests.starting import listener_start
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.processes

THREADS = {"auditor", "deletions", "follower", "parent-watch", "prober", "scanner", "worker-1"}

# It waits for its parent in one system call, where no exception can strike it.
OUT_OF_REACH = "parent-watch"

# The supervisor notices a silent follower by itself. The others wait for work with the lock of the tracker. One that
# hangs there stops the main thread as well, so the listener falls silent, too.
NOT_NOTICED = ("auditor", "deletions")

# A thread that hangs in a pause that it has announced is noticed after that pause.
HURRIED = (
    ("peruserd.listener.auditing", "_ASK_AGAIN_SECONDS", 0.5),
    ("peruserd.listener.auditing", "_FIRST_SECONDS", 0.5),
    ("peruserd.listener.deletions", "_IDLE_SECONDS", 0.5),
)

# Only where a thread is to hang. On a busy machine others could be late by as much.
IMPATIENT = (
    *HURRIED,
    ("peruserd.listener.listener", "_LOOK_SECONDS", 0.3),
    ("peruserd.threads", "_GRACE_SECONDS", 5.0),
)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node with one range."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1, q=1)) as running:
        yield running


class Child:
    """A listener that has caught up, with a saboteur in it."""

    def __init__(self, cluster: SimClusterThread, directory: Path, name: str, constants: Constants) -> None:
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
        self.process: Any = forked_listener(encode(start), theirs, orders(path, constants))
        self.process.start()
        theirs.close()
        self._report: Report | None = None
        self.saboteur = Saboteur(path)

    def wait(self) -> None:
        """Wait until it has caught up and has all its threads."""
        eventually(self._has_caught_up, "the listener has caught up")
        eventually(lambda: self.lasting() >= THREADS, "all its threads have started")

    def lasting(self) -> set[str]:
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

    def _has_caught_up(self) -> bool:
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                message = decode_from_listener(self._pipe.recv_bytes())
                if isinstance(message, Report):
                    self._report = message
        return self._report is not None and self._report.caught_up


@pytest.fixture
def begin(cluster: SimClusterThread, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Begin a listener for the fault of a thread."""
    children: list[Child] = []

    def made(name: str, constants: Constants = HURRIED) -> Child:
        children.append(Child(cluster, tmp_path, name, constants))
        return children[-1]

    yield made
    for child in children:
        child.end()


def test_a_thread_that_fails_ends_the_listener(begin: Callable[..., Child]) -> None:
    """Whatever is raised in it, and wherever it is. No thread is forgotten here."""
    children = {name: begin(name) for name in sorted({*THREADS, "MainThread"} - {OUT_OF_REACH})}
    for name, child in children.items():
        child.wait()
        # Another worker may have been started meanwhile.
        assert {each for each in child.lasting() if not each.startswith("worker-")} == THREADS - {"worker-1"}
        child.saboteur.let_fail(name)
    codes = {name: child.exit_code() for name, child in children.items()}
    assert codes == {name: 1 if name == "MainThread" else Exit.FAULT for name in children}


def test_a_thread_that_hangs_ends_the_listener(begin: Callable[..., Child], capfd: pytest.CaptureFixture[str]) -> None:
    """The log names the thread, and shows where it hangs."""
    children = {name: begin(name, IMPATIENT) for name in NOT_NOTICED}
    for name, child in children.items():
        child.wait()
        child.saboteur.let_hang(name)
    assert {name: child.exit_code() for name, child in children.items()} == dict.fromkeys(children, Exit.FAULT)
    logged = capfd.readouterr().err
    assert "most recent call first" in logged
    for name in children:
        assert f"the thread '{name}' hangs" in logged
