"""The simulated cluster in the foreground, until a signal stops it."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from typing import Final

from peruserd.simcluster.cluster_server import ClusterServer
from peruserd.simcluster.options import ClusterOptions

READY_LINE: Final = "ready"
CONTROL_LINE: Final = "control "


class CannotListenError(Exception):
    """A port is taken, or there is no such address."""


def run_forever(options: ClusterOptions, *, as_json: bool = False) -> None:
    """Run a cluster until SIGTERM or SIGINT; raises CannotListenError.

    It prints each node's URL on a line of its own, the URL of the controls after `control `, and then `ready`. With
    `as_json` it prints one object on one line instead.
    """
    asyncio.run(_run(options, as_json=as_json))


async def _run(options: ClusterOptions, *, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ClusterServer(options)
    try:
        await server.start()
    except OSError as error:
        raise CannotListenError(f"the simulated cluster cannot listen: {error}") from error
    for line in [_in_json(server)] if as_json else _in_words(server):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    await stop.wait()
    await server.stop()


def _in_json(server: ClusterServer) -> str:
    return json.dumps({"nodes": server.cluster.urls, "control": server.control_url})


def _in_words(server: ClusterServer) -> Iterator[str]:
    yield from server.cluster.urls
    if server.control_url:
        yield CONTROL_LINE + server.control_url
    yield READY_LINE
