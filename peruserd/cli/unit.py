"""`peruserd unit`: print the systemd unit, with the path of this program in it.

The unit is the file `peruserd.service` of the sources. The package has it as a symbolic link, which a wheel resolves.
"""

import argparse
import sys
import sysconfig
from importlib import resources
from pathlib import Path
from typing import Final

from peruserd.cli.installing_parsers import is_plain_path
from peruserd.cli.output import CommandError, print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_USAGE

# `ProtectHome` and `PrivateTmp` of the unit hide these from the service.
_HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is written there


def run(options: argparse.Namespace) -> int:
    """Print the unit, and warn where the service could not see the program."""
    program = options.program or _own_program()
    if any(Path(program).is_relative_to(place) for place in _HIDDEN):
        say(f"the service cannot start {program}, because its unit hides that directory from it")
    text = unit(program)
    if options.json:
        print_json({"program": program, "unit": text})
    else:
        sys.stdout.write(text)
    return EXIT_DONE


def unit(program: str) -> str:
    """Return the unit with `ExecStart` running the program at this path."""
    lines = resources.files("peruserd").joinpath("peruserd.service").read_text(encoding="utf-8").splitlines()
    return "".join(f"{_with_program(line, program)}\n" for line in lines)


def _with_program(line: str, program: str) -> str:
    setting, _, command = line.partition("=")
    if setting != "ExecStart":
        return line
    return f"{setting}={program} {command.partition(' ')[2]}"


def _own_program() -> str:
    """Return the path of the program that the installation of this package has made."""
    program = Path(sysconfig.get_path("scripts"), "peruserd")
    if not program.is_file() or not is_plain_path(str(program)):
        words = f"unit: {program} is no program that systemd can start; name another one with --program"
        raise CommandError(EXIT_USAGE, "usage", words)
    return str(program)
