"""A wait for the next change of shard copies, without polling."""

import asyncio
from collections.abc import Iterable

from peruserd.simcluster.model.copies import ShardCopy


async def wait_for_change(copies: Iterable[ShardCopy], seconds: float | None) -> None:
    """Return at the first change of a copy, when a copy is removed, or after `seconds`."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    watched = list(copies)
    for copy in watched:
        copy.watch(wake)
    timer = loop.call_later(seconds, wake) if seconds is not None else None
    try:
        await woken
    finally:
        if timer:
            timer.cancel()
        for copy in watched:
            copy.unwatch(wake)
