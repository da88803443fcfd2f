"""`peruserd restart-listener`: let the daemon of this node start one of its listeners again."""

import argparse
from collections.abc import Iterable

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.order_command import answers, ended, not_understood
from peruserd.cli.output import print_json, say
from peruserd.cli.parser import EXIT_DONE
from peruserd.core.common.escaping import shown
from peruserd.core.processes import control
from peruserd.daemon.state import StateDirectory


class _Result(msgspec.Struct, frozen=True):
    done: bool
    listener: str


def run(options: argparse.Namespace) -> int:
    """Give the order, and wait until the new process reads its copy, unless `--no-wait` says otherwise."""
    directory = StateDirectory.configured(load_file(options.config).config).path
    order = control.RestartListener(options.listener, waits=not options.no_wait)
    listener = _followed(answers(directory, order), waits=order.waits)
    if options.json:
        print_json(_Result(done=True, listener=listener))
    else:
        print(f"{shown(listener)}: {'reads its copy again' if order.waits else 'starts again'}")
    return EXIT_DONE


def _followed(said: Iterable[control.Answer], *, waits: bool) -> str:
    """Follow the answers to their end, and return the listener that was meant."""
    listener = ""
    for answer in ended(said):
        if isinstance(answer, control.Restarting):
            listener = answer.copy
            if waits:
                say(f"{shown(listener)} starts again")
        elif not isinstance(answer, control.Done):
            raise not_understood(answer)
    return listener
