"""The parsers of the commands that print files for an installation."""

import argparse
import re
from typing import Final

from peruserd.cli.arguments import Commands, add_command, add_json_option, exit_codes

# systemd gives a meaning to other characters, such as % and blanks.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9/._+@~-]+")

# A job and an address stand in expressions, in YAML and in links as they are.
_JOB: Final = re.compile(r"[A-Za-z0-9_./:-]+")
_ADDRESS: Final = re.compile(r"[!-~]+")

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


def add_monitoring(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd monitoring`."""
    parser = add_command(
        commands,
        "monitoring",
        "export alert rules for Prometheus, the tests of these, and a dashboard for Grafana",
        "peruserd monitoring export /etc/prometheus/peruserd",
    )
    adding = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = add_command(
        adding,
        "export",
        "write rules, tests, dashboard and a README to a directory",
        "peruserd monitoring export /etc/prometheus/peruserd",
        codes=exit_codes(
            not_done="a file is there with other contents, or cannot be written", later="the disk is full"
        ),
    )
    action.add_argument("directory", metavar="DIR", help="the directory; it is made if it is missing")
    action.add_argument("--job", type=_job, default="peruserd", metavar="NAME", help="the job of the targets")
    action.add_argument(
        "--runbook",
        type=_address,
        default="docs/alerts.md",
        metavar="URL",
        help="where the document of the alerts is, for the links in alerts",
    )
    action.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        metavar="N",
        help="multiplies all times of the rules, from 0.01; less than 1 is for tests",
    )
    action.add_argument("--overwrite", action="store_true", help="replace files that are there with other contents")
    add_json_option(action)


def _job(text: str) -> str:
    if not _JOB.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits and _ . / : -")
    return text


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address without blanks")
    return text


def _scale(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.01 <= found <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.01 to 100")
    return found
