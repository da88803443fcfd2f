"""`peruserd reload`: let the running daemon read its configuration again."""

import argparse
from collections.abc import Iterator

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.order_command import given, not_understood
from peruserd.cli.output import CommandError, print_json, say
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_DONE, EXIT_NOT_DONE
from peruserd.core.common.escaping import shown
from peruserd.core.processes import control
from peruserd.daemon.state import StateDirectory


class _Result(msgspec.Struct, frozen=True):
    done: bool
    at_once: tuple[str, ...]
    with_listeners: tuple[str, ...]
    needs_restart: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    """Ask the daemon; exit 1 if a changed key needs a restart, and 78 if the file was refused."""
    directory = StateDirectory.configured(load_file(options.config).config).path
    found, *_ = given(directory, control.Reload())
    if isinstance(found, control.Mistaken):
        say("refused; the configuration before stays in force")
        raise CommandError(EXIT_CONFIGURATION, "configuration", *map(shown, found.problems))
    if not isinstance(found, control.Reloaded):
        raise not_understood(found)
    if options.json:
        print_json(_Result(not found.kept, found.at_once, found.listeners, found.kept))
    else:
        print("\n".join(_in_words(found)))
    return EXIT_NOT_DONE if found.kept else EXIT_DONE


def _in_words(found: control.Reloaded) -> Iterator[str]:
    if not (found.at_once or found.listeners or found.kept):
        yield "read again; nothing has changed"
    if found.at_once:
        yield f"in force now: {', '.join(found.at_once)}"
    if found.listeners:
        yield f"in force as the listeners start again, one after the other: {', '.join(found.listeners)}"
    if found.kept:
        yield f"not in force before a restart: {', '.join(found.kept)}"
