"""Group commit: one write for all threads that wait, and no thread goes on with an item that is not written."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from peruserd.listener.group_commit import GroupCommit
from tests.waiting import PATIENCE_SECONDS, eventually


class Disk:
    """Takes writes, one at a time: each waits until the test lets it go, and can fail."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.began = threading.Semaphore(0)
        self._go_on = threading.Semaphore(0)
        self._errors: list[Exception] = []

    def write(self, texts: Sequence[str]) -> None:
        """Write, as the test allows."""
        self.began.release()
        assert self._go_on.acquire(timeout=PATIENCE_SECONDS)
        if self._errors:
            raise self._errors.pop(0)
        self.writes.append(list(texts))

    def let_go(self, count: int = 1) -> None:
        """Let so many writes end."""
        for _ in range(count):
            self._go_on.release()

    def fail_next(self) -> None:
        """Let the next write fail."""
        self._errors.append(OSError("full"))
        self.let_go()

    def wait_for_a_write(self) -> None:
        """Wait until a write has begun."""
        assert self.began.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def disk() -> Disk:
    """Give a disk."""
    return Disk()


@pytest.fixture
def commit(disk: Disk) -> GroupCommit:
    """Give a group commit to the disk."""
    return GroupCommit(disk.write)


@pytest.fixture
def begin(commit: GroupCommit) -> Iterator[Callable[[str], "Future[None]"]]:
    """Give a function with which a thread of its own writes a text."""
    with ThreadPoolExecutor() as threads:

        def begun(text: str) -> "Future[None]":
            count = len(commit._waiting)
            future = threads.submit(commit.write, text)
            eventually(lambda: len(commit._waiting) > count or disk_has_it(), f"{text} is there")
            return future

        def disk_has_it() -> bool:
            return commit._turn.locked() and not commit._waiting

        yield begun


Begin = Callable[[str], "Future[None]"]


def test_all_who_come_during_a_write_share_the_next_one(disk: Disk, begin: Begin) -> None:
    """No thread writes alone then."""
    first = begin("a")
    disk.wait_for_a_write()
    others = [begin(each) for each in "bcde"]
    disk.let_go(2)
    for each in (first, *others):
        each.result(PATIENCE_SECONDS)
    assert [sorted(each) for each in disk.writes] == [["a"], ["b", "c", "d", "e"]]


def test_nobody_goes_on_before_the_write_has_ended(disk: Disk, begin: Begin) -> None:
    """What is written next may depend on it."""
    first = begin("a")
    disk.wait_for_a_write()
    second = begin("b")
    disk.let_go()
    first.result(PATIENCE_SECONDS)
    disk.wait_for_a_write()
    assert not second.done()
    disk.let_go()
    second.result(PATIENCE_SECONDS)


def test_after_an_error_each_one_tries_for_itself(disk: Disk, begin: Begin) -> None:
    """The error is that of the thread whose write it was. The others' items are written all the same."""
    first = begin("a")
    disk.wait_for_a_write()
    second, third = begin("b"), begin("c")
    disk.fail_next()
    with pytest.raises(OSError, match="full"):
        first.result(PATIENCE_SECONDS)
    disk.let_go()
    for each in (second, third):
        each.result(PATIENCE_SECONDS)
    assert [sorted(each) for each in disk.writes] == [["b", "c"]]


def test_a_full_disk_fails_for_everybody(disk: Disk, begin: Begin, commit: GroupCommit) -> None:
    """Nothing is left behind to be written with the next item, because its thread decides again."""
    first = begin("a")
    disk.wait_for_a_write()
    others = [begin(each) for each in "bc"]
    for _ in range(3):
        disk.fail_next()
    for each in (first, *others):
        with pytest.raises(OSError, match="full"):
            each.result(PATIENCE_SECONDS)
    assert disk.writes == []
    assert not commit._waiting
    disk.let_go()
    commit.write("d")
    assert disk.writes == [["d"]]


@pytest.mark.parametrize("pause", [0.0, 1e-5], ids=["at-once", "with-a-pause"])
def test_many_threads_lose_nothing(pause: float) -> None:
    """Whatever the order of their turns is, each is woken."""
    written: list[str] = []

    def write(texts: Sequence[str]) -> None:
        time.sleep(pause)
        written.extend(texts)

    commit = GroupCommit(write)
    texts = [str(number) for number in range(2_000)]
    with ThreadPoolExecutor(32) as threads:
        for _ in threads.map(commit.write, texts):
            pass
    assert sorted(written) == sorted(texts)
