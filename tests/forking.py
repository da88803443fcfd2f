"""Runs programs of peruserd in processes that are forked from one process with all imports.

Importing them again takes ten times as long as running one. A forked process has its own environment, directory,
descriptors and exit code, like any other.
"""

import importlib
import multiprocessing
import sys
from typing import Final

from peruserd.core.common.backoff import Backoff
from peruserd.core.users.quarantine import Advice

_COMMANDS: Final = ("check", "config", "deletions", "name", "owner", "plan", "run")

CONTEXT: Final = multiprocessing.get_context("forkserver")
"""The fork server of the tests. The one of `multiprocess` is peruserd's, and must stay as in a new interpreter."""

# These times have no configuration key, because they suit every real cluster. Tests would only wait for them to pass.
# Processes that begin with a new interpreter have the times of users.
_HURRIED: Final = (
    ("peruserd.cli.survey", "_AGAIN_SECONDS", 0.5),
    ("peruserd.core.processes.password_gate", "_WHILE_UNSENT", Backoff(initial_seconds=0.25, max_seconds=0.5)),
    ("peruserd.core.scheduling.circuit", "_JITTERED", Backoff(initial_seconds=0.1, max_seconds=0.1)),
    ("peruserd.core.scheduling.circuit", "_PAUSE_SECONDS", 0.15),
    ("peruserd.core.scheduling.circuit", "_PROBE_SECONDS", 0.25),
    ("peruserd.core.scheduling.dispatch", "_OTHERS_REST_SECONDS", 0.5),
    ("peruserd.core.scheduling.state_hold", "_PAUSES", Backoff(initial_seconds=0.25, max_seconds=4.0)),
    ("peruserd.couch.authenticator", "_REREAD_SECONDS", 0.5),
    ("peruserd.daemon.heartbeat", "_LEAST_SECONDS", 0.2),
    ("peruserd.daemon.status", "_FRESH_SECONDS", 0.2),
    ("peruserd.listener.auditing", "_AGAIN_SECONDS", 0.5),
    ("peruserd.listener.feed", "_BACKOFF", {each: Backoff(initial_seconds=0.2, max_seconds=1.0) for each in Advice}),
    ("peruserd.listener.pending", "_BACKOFF", Backoff(initial_seconds=0.5, max_seconds=2.0)),
    ("peruserd.repeated_task", "_BACKOFF", Backoff(initial_seconds=0.25, max_seconds=8.0)),
    ("peruserd.supervisor.attaching", "_ASKING_AGAIN", Backoff(initial_seconds=0.2, max_seconds=1.0)),
    ("peruserd.supervisor.attaching", "_SURE_SECONDS", 0.1),
    ("peruserd.supervisor.directory_watch", "_MIN_SECONDS", 0.25),
    ("peruserd.supervisor.directory_watch", "_NO_SHARDS_SECONDS", 0.5),
    ("peruserd.supervisor.directory_watch", "_SAVE_SECONDS", 0.25),
    ("peruserd.supervisor.pausing", "_AWAY", Backoff(initial_seconds=0.25, max_seconds=0.5)),
    ("peruserd.supervisor.pausing", "_BACKOFF", Backoff(initial_seconds=0.25, max_seconds=1.0)),
    ("peruserd.supervisor.pausing", "_SHUT_SECONDS", 0.25),
)


_PRELOADED: Final = (
    *(f"peruserd.cli.{each}" for each in _COMMANDS),
    "peruserd.listener.process",
    "peruserd.simcluster.runner",
    "tests.system.forked",
    # These are imported only while a program runs.
    *dict.fromkeys(module for module, _, _ in _HURRIED),
    "concurrent.futures.thread",
    "multiprocess.popen_forkserver",
    "pkgutil",
    # The last one, because it is about all that were imported before it.
    "tests.frozen",
)
CONTEXT.set_forkserver_preload(list(_PRELOADED))


def hurry(*, imported: bool = False) -> None:
    """Shorten these times, in this process and in its children; with `imported` only those of imported modules."""
    for module, name, value in _HURRIED:
        if imported and module not in sys.modules:
            continue
        there = importlib.import_module(module)
        assert hasattr(there, name), f"{module} has no {name} any more"
        setattr(there, name, value)
