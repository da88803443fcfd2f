"""Each thread of a running listener fails or hangs: the listener ends, so that its supervisor starts it again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.listener.exit_codes import Exit
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.listener.sabotaged import THREADS, Child
from tests.sabotage import Constants

pytestmark = pytest.mark.processes

# It waits for its parent in one system call, where no exception can strike it.
OUT_OF_REACH = "parent-watch"

# The supervisor notices a silent follower by itself. The thread for the disk may wait for ever, which is a hold. The
# others wait for work with the lock of the tracker. One that hangs there stops the main thread as well, so the listener
# falls silent, too.
NOT_NOTICED = ("auditor", "deletions")

# A thread that hangs in a pause that it has announced is noticed after that pause.
HURRIED = (
    ("peruserd.listener.auditing", "_ASK_AGAIN_SECONDS", 0.5),
    ("peruserd.listener.auditing", "_FIRST_SECONDS", 0.5),
    ("peruserd.listener.deletions", "_IDLE_SECONDS", 0.5),
    # The main thread waits so long for the thread of the disk.
    ("peruserd.listener.disk", "_PATIENCE_SECONDS", 1.0),
)

# Only where a thread is to hang. On a busy machine others could be late by as much.
IMPATIENT = (
    *HURRIED,
    ("peruserd.listener.listener", "_LOOK_SECONDS", 0.3),
    ("peruserd.threads", "_GRACE_SECONDS", 3.0),
)


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node with one range."""
    with SimClusterThread(ClusterOptions(nodes=1, n=1, q=1)) as running:
        yield running


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


def test_a_shortage_of_memory_asks_for_another_start(begin: Callable[..., Child]) -> None:
    """The exit code says that the cause is outside, so enough such ends do not restart the whole instance."""
    child = begin("scanner")
    child.wait()
    child.saboteur.let_starve("scanner")
    assert child.exit_code() == Exit.AGAIN
