"""Programs of peruserd in processes that are forked from one that has imported them, once for all tests.

To import them again takes ten times as long as to run one. A process that is forked has all that a process of its own
has: its own environment, directory, descriptors and exit code.
"""

import multiprocessing
from typing import Final

_COMMANDS: Final = ("check", "config", "deletions", "name", "owner", "plan", "run")

CONTEXT: Final = multiprocessing.get_context("forkserver")
"""Makes such processes. Not of `multiprocess`, which peruserd itself has to find as a new interpreter has it."""

CONTEXT.set_forkserver_preload(
    [*(f"peruserd.cli.{each}" for each in _COMMANDS), "peruserd.listener.process", "tests.system.forked"]
)
