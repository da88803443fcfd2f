import errno
import os
import re

import pytest

from peruserd.core.configuration.problems import TemporaryError
from peruserd.daemon.start import Start


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(each, os.strerror(each)) for each in (errno.EMFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC)),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ],
    ids=repr,
)
def test_a_shortage_at_the_start_says_to_try_again(error: Exception) -> None:
    """The sentence has the error's own words, or at least its name."""
    with pytest.raises(TemporaryError, match=re.escape(str(error)) or "MemoryError"), Start():
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("a fault"), RuntimeError("another"), KeyboardInterrupt("a key")], ids=repr
)
def test_a_fault_of_the_program_stays_one(error: BaseException) -> None:
    """Its traceback is needed, and another try would end in the same way."""
    with pytest.raises(type(error), match=str(error)), Start():
        raise error


def test_after_the_start_an_error_of_the_machine_is_a_fault() -> None:
    """By then users were served, so the instance did not fail to start."""
    start = Start()
    start.is_over = True
    with pytest.raises(OSError, match="later"), start:
        raise OSError(errno.EMFILE, "later")
