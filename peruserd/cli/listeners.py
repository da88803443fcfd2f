"""`peruserd listeners`: show the listeners of this node's daemon."""

import argparse

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE
from peruserd.cli.status import ask
from peruserd.cli.status_words import listeners_in_words
from peruserd.core.processes.status import ListenerView
from peruserd.daemon.state import StateDirectory


class _Listeners(msgspec.Struct, frozen=True):
    listeners: tuple[ListenerView, ...]
    omitted: int


def run(options: argparse.Namespace) -> int:
    """Print the listeners; exit 1 unless each of them has caught up."""
    status = ask(StateDirectory.configured(load_file(options.config).config).path).status
    if options.json:
        print_json(_Listeners(status.listeners, status.omitted.get("listeners", 0)))
    else:
        print(listeners_in_words(status))
    return EXIT_DONE if status.ready.ok and all(each.caught_up for each in status.listeners) else EXIT_NOT_DONE
