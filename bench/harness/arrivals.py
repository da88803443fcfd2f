"""Users sign up at a steady rate, and each then waits for a secured database."""

from collections.abc import Callable
from typing import Final

import msgspec

from bench.harness.cluster import Cluster
from bench.harness.open_loop import LEAD_SECONDS, SignUp, sign_up_at
from bench.harness.watch import Watch

_PATIENCE_SECONDS: Final = 60.0


class Arrivals(msgspec.Struct, frozen=True):
    """The latency of each user in milliseconds, in the order of the sign-ups.

    A latency is from the answer to the document until the database is seen to be secured. `unserved` users waited in
    vain, and `refused` users could not sign up.
    """

    latencies_ms: list[float]
    unserved: int
    refused: int


def arrive(
    cluster: Cluster,
    users: int,
    rate: float,
    then: Callable[[SignUp], None] | None = None,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
    lead_seconds: float = LEAD_SECONDS,
) -> Arrivals:
    """Let new users sign up at all nodes in turn, `rate` a second, and wait until they are served.

    `then` and `lead_seconds` are as for OpenLoop. The wait ends `patience_seconds` after the last sign-up.
    """
    names = cluster.new_names(users)
    with Watch(cluster) as watch:
        signed_up = sign_up_at(cluster, names, rate, range(len(cluster.urls)), then, lead_seconds=lead_seconds)
        answered = {each.name: each.answered for each in signed_up if each.answered is not None}
        left = watch.wait_for(set(answered), patience_seconds)
    return Arrivals(
        # The watch can see a user as served before the document is answered; such a user waited no time at all.
        latencies_ms=[1000 * max(0.0, watch.served[name] - at) for name, at in answered.items() if name not in left],
        unserved=len(left),
        refused=len(signed_up) - len(answered),
    )
