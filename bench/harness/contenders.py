"""The contenders that serve users in a benchmark: peruserd, couch_peruser, or a plain loop."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

from bench.harness import builtin
from bench.harness.cluster import Cluster
from bench.harness.daemons import Daemons

Contender = TypeVar("Contender")

PERUSERD: Final = "peruserd"
BUILTIN: Final = "couch_peruser"
BARE: Final = "bare"


def available(cluster: Cluster, contenders: Sequence[str]) -> list[str]:
    """Return the contenders that this cluster has."""
    there = builtin.is_available(cluster)
    return [each for each in contenders if there or each != BUILTIN]


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the contenders in the order of a round. Each round begins with another, so that none is always first."""
    turn = number % len(contenders)
    return [*contenders[turn:], *contenders[:turn]]


def serving(cluster: Cluster, instances: Daemons, contender: str) -> AbstractContextManager[object]:
    """Let a contender serve all users who sign up while the context lasts. A plain loop is for the caller to run."""
    if contender == BUILTIN:
        return builtin.switched_on(cluster)
    if contender == PERUSERD:
        return instances.running()
    return nullcontext()
