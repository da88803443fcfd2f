"""Random numbers to spread repeated attempts, so that instances and users do not all try at the same moment."""

import random


def jitter() -> float:
    """Return a random number of [0, 1)."""
    return random.random()  # noqa: S311 - spreads attempts, guards nothing
