"""Programs of peruserd in processes that are forked from one that has imported them, once for all tests.

To import them again takes ten times as long as to run one. A process that is forked has all that a process of its own
has: its own environment, directory, descriptors and exit code.
"""

import importlib
import multiprocessing
from typing import Final

from peruserd.core.common.backoff import Backoff

_COMMANDS: Final = ("check", "config", "deletions", "name", "owner", "plan", "run")

CONTEXT: Final = multiprocessing.get_context("forkserver")
"""Makes such processes. Not of `multiprocess`, which peruserd itself has to find as a new interpreter has it."""

CONTEXT.set_forkserver_preload(
    [*(f"peruserd.cli.{each}" for each in _COMMANDS), "peruserd.listener.process", "tests.system.forked"]
)

# Times that have no key in the configuration, because they suit every cluster that people run: tests wait for them only
# to see what comes after. Processes that begin with a new interpreter have the times of users.
_HURRIED: Final = (
    ("peruserd.cli.survey", "_AGAIN_SECONDS", 0.5),
    ("peruserd.core.work.dispatch", "_SETTLING_SECONDS", 1.0),
    ("peruserd.listener.auditing", "_AGAIN_SECONDS", 1.0),
    ("peruserd.supervisor.attaching", "_ASKING_AGAIN", Backoff(initial_seconds=0.2, max_seconds=5.0)),
    ("peruserd.supervisor.attaching", "_SURE_SECONDS", 0.1),
    ("peruserd.supervisor.directory_watch", "_MIN_SECONDS", 0.25),
    ("peruserd.supervisor.directory_watch", "_NO_SHARDS_SECONDS", 0.5),
    ("peruserd.supervisor.directory_watch", "_SAVE_SECONDS", 0.25),
    ("peruserd.supervisor.pausing", "_BACKOFF", Backoff(initial_seconds=0.25, max_seconds=4.0)),
)


def hurry() -> None:
    """Shorten what tests would wait for, in this process and in those that are forked from it."""
    for module, name, value in _HURRIED:
        there = importlib.import_module(module)
        assert hasattr(there, name), f"{module} has no {name} any more"
        setattr(there, name, value)
