"""The parsers of the commands that print files for an installation."""

import argparse
import re
from typing import Final

from peruserd.cli.arguments import Commands, add_command, add_json_option

# systemd gives a meaning to other characters, such as % and blanks.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9/._+@~-]+")


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
