"""Shortages of the machine, and faults of the program."""

import errno
import os

import pytest

from peruserd.core.processes.shortages import NO_THREAD, is_of_others, is_shortage

SHORTAGES = [
    *(OSError(each, os.strerror(each)) for each in (errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.ENOSPC)),
    BlockingIOError(errno.EAGAIN, NO_THREAD),
]
FAULTS = [OSError(errno.ECONNRESET, "the fork server ended"), FileNotFoundError(errno.ENOENT, "gone"), OSError("odd")]


@pytest.mark.parametrize("error", [*SHORTAGES, OSError(errno.EMFILE, "files"), MemoryError(), RuntimeError(NO_THREAD)])
def test_a_shortage_can_pass(error: Exception) -> None:
    """Another try may succeed, and a restart of the whole program would meet the same shortage."""
    assert is_shortage(error)


@pytest.mark.parametrize("error", [*FAULTS, RuntimeError("dictionary changed size"), ValueError("x")])
def test_a_fault_stays_one(error: Exception) -> None:
    """Its traceback is needed."""
    assert not is_shortage(error)


@pytest.mark.parametrize("error", [*FAULTS, OSError(errno.EMFILE, "files")])
def test_this_process_may_have_used_up_its_own_descriptors(error: OSError) -> None:
    """A restart cures that."""
    assert not is_of_others(error)


@pytest.mark.parametrize("error", SHORTAGES)
def test_other_shortages_come_from_outside(error: OSError) -> None:
    """A restart cures none of them."""
    assert is_of_others(error)
