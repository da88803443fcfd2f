"""The simulated cluster in the foreground, until it is told to stop."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from typing import Final

from peruserd.simcluster.cluster import SimCluster
from peruserd.simcluster.options import ClusterOptions

READY_LINE: Final = "ready"
CONTROL_LINE: Final = "control "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of a simulated cluster; `options_from` reads them back."""
    defaults = ClusterOptions()
    parser.add_argument("--nodes", type=int, default=defaults.nodes, help="how many nodes (%(default)s)")
    parser.add_argument(
        "--spare", type=int, default=defaults.spare, help="of these, how many have not joined yet (%(default)s)"
    )
    parser.add_argument("--q", type=int, default=defaults.q, help="ranges of a database (%(default)s)")
    parser.add_argument("--n", type=int, default=defaults.n, help="copies of a range (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=15984, help="node 1's; node k has 10000*(k-1) more; 0: free ones (%(default)s)"
    )
    parser.add_argument("--user", default=defaults.user, metavar="NAME:PASS", help="the admin (%(default)s)")
    parser.add_argument("--control-port", type=int, help="serve the controls here; 0: a free port")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="fixes random choices (%(default)s)")
    for name, help_text in (
        ("replication", "how late a copy gets what it did not get at once"),
        ("split", "how long each node waits before each step of a split"),
    ):
        default = getattr(defaults, f"{name}_delay_seconds")
        parser.add_argument(
            f"--{name}-delay", type=float, default=default, metavar="SECONDS", help=f"{help_text} (%(default)s)"
        )
    parser.add_argument(
        "--request-seconds", type=float, default=0.0, metavar="SECONDS", help="added to every clustered write"
    )


def options_from(arguments: argparse.Namespace) -> ClusterOptions:
    """Return the options that were given; ValueError where they make no cluster."""
    return ClusterOptions(
        nodes=arguments.nodes,
        spare=arguments.spare,
        q=arguments.q,
        n=arguments.n,
        port=arguments.port,
        control_port=arguments.control_port,
        user=arguments.user,
        seed=arguments.seed,
        replication_delay_seconds=arguments.replication_delay,
        split_delay_seconds=arguments.split_delay,
        request_seconds=arguments.request_seconds,
    )


class CannotListenError(Exception):
    """A port is taken, or there is no such address."""


def run_forever(options: ClusterOptions, *, as_json: bool = False) -> None:
    """Run a cluster until SIGTERM or SIGINT; raises CannotListenError.

    Prints each node's URL on a line of its own, the controls' after `control ` where there are any, then `ready`. With
    `as_json` it prints all of these as one object on one line.
    """
    asyncio.run(_run(options, as_json=as_json))


async def _run(options: ClusterOptions, *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = SimCluster(options)
    try:
        await cluster.start()
    except OSError as error:
        raise CannotListenError(f"the simulated cluster cannot listen: {error}") from error
    for line in [_in_json(cluster)] if as_json else _in_words(cluster):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    await stop.wait()
    await cluster.stop()


def _in_json(cluster: SimCluster) -> str:
    return json.dumps({"nodes": list(cluster.urls), "control": cluster.control_url})


def _in_words(cluster: SimCluster) -> Iterator[str]:
    yield from cluster.urls
    if cluster.control_url:
        yield CONTROL_LINE + cluster.control_url
    yield READY_LINE
