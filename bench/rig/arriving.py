"""Users who sign up at a steady rate, and how long each then waits for a secured database."""

from collections.abc import Callable
from typing import Final

import msgspec

from bench.rig.cluster import Cluster
from bench.rig.openloop import SignUp, sign_up_at
from bench.rig.watching import Watch

_PATIENCE_SECONDS: Final = 60.0


class Arrivals(msgspec.Struct, frozen=True):
    """The latency of each user in milliseconds, from the answer to the document to the database seen to be secured.

    In the order of the sign-ups. `unserved` waited in vain, `refused` could not sign up.
    """

    latencies_ms: list[float]
    unserved: int
    refused: int


def arrive(
    cluster: Cluster,
    users: int,
    rate: float,
    then: Callable[[SignUp], None] | None = None,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Arrivals:
    """Let new users sign up at all nodes in turn, `rate` a second, and wait until they are served.

    `then` is as for OpenLoop. Users who are not served `patience_seconds` after the last sign-up are not waited for.
    """
    names = cluster.new_names(users)
    with Watch(cluster) as watch:
        signed_up = sign_up_at(cluster, names, rate, range(len(cluster.urls)), then)
        answered = {each.name: each.answered for each in signed_up if each.answered is not None}
        left = watch.wait_for(set(answered), patience_seconds)
    return Arrivals(
        # A user whom the watch saw before the document was answered waited no time at all.
        latencies_ms=[1000 * max(0.0, watch.served[name] - at) for name, at in answered.items() if name not in left],
        unserved=len(left),
        refused=len(signed_up) - len(answered),
    )
