"""`peruserd drain`: let the daemon of this node give up its users to the other instances, and take them back."""

import argparse

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.order_command import given
from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE
from peruserd.core.processes import control
from peruserd.daemon.state import StateDirectory


class _Result(msgspec.Struct, frozen=True):
    done: bool


def run(options: argparse.Namespace) -> int:
    """Give the order, and wait until the others act, unless `--no-wait` says otherwise."""
    directory = StateDirectory.configured(load_file(options.config).config).path
    given(directory, control.Drain(options.undo, options.force, waits=not options.no_wait))
    if options.json:
        print_json(_Result(done=True))
    return EXIT_DONE
