"""Fewer examples for `make test-fast`, which is to answer soon. `make test` tries them all."""

import os
from typing import Final

VARIABLE: Final = "TESTS_OF_PERUSERD_QUICK"
"""The variable of the environment by which all modules of a run know that it is a quick one."""

_SHARE: Final = 4


def examples(number: int) -> int:
    """Return how many of so many examples this run tries."""
    return max(1, number // _SHARE) if os.environ.get(VARIABLE) else number
