"""Fewer examples for `make test-fast`, which should be quick. `make test` tries all of them."""

import os
from typing import Final

VARIABLE: Final = "TESTS_OF_PERUSERD_QUICK"
"""The environment variable that marks a quick run for all modules."""

_SHARE: Final = 4


def examples(number: int) -> int:
    """Return how many of `number` examples this run tries."""
    return max(1, number // _SHARE) if os.environ.get(VARIABLE) else number
