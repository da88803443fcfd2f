"""The parsers of the commands that print files for an installation."""

import argparse
import re
from typing import Final

from peruserd.cli.arguments import Commands, add_command, add_json_option

# systemd gives a meaning to other characters, such as % and blanks.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9/._+@~-]+")

COMMANDS_PAGE: Final = "peruserd.1"
CONFIGURATION_PAGE: Final = "peruserd.toml.5"
SHELLS: Final = ("bash", "zsh", "fish")


def add_unit(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd unit`."""
    parser = add_command(
        commands,
        "unit",
        "print the systemd unit that runs this program",
        "peruserd unit > /etc/systemd/system/peruserd.service",
    )
    parser.add_argument(
        "--program",
        type=_program,
        metavar="PATH",
        help="full path of peruserd on the machine of the service (default: the program that is running)",
    )
    add_json_option(parser)


def is_plain_path(text: str) -> bool:
    """Say whether this is a full path that can stand in a unit as it is."""
    return _PLAIN_PATH.fullmatch(text) is not None


def _program(text: str) -> str:
    if not is_plain_path(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a full path of plain characters")
    return text


def add_manual(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd manual`."""
    parser = add_command(
        commands,
        "manual",
        "print a manual page for man",
        "peruserd manual | man -l -\n  peruserd manual peruserd.toml.5 > /usr/local/share/man/man5/peruserd.toml.5",
    )
    pages = (COMMANDS_PAGE, CONFIGURATION_PAGE)
    help_text = f"{COMMANDS_PAGE}, the commands (default), or {CONFIGURATION_PAGE}, the configuration"
    parser.add_argument("page", metavar="PAGE", nargs="?", choices=pages, default=COMMANDS_PAGE, help=help_text)
    add_json_option(parser)


def add_completion(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd completion`."""
    parser = add_command(
        commands,
        "completion",
        "print what makes a shell complete commands and options",
        "peruserd completion bash > /usr/share/bash-completion/completions/peruserd",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"the shell: {', '.join(SHELLS)}")
    add_json_option(parser)
