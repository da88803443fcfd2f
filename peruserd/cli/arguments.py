"""The parts that the parsers of commands share: how a command is added, its options, and the values that they take.

The functions for values raise ArgumentTypeError, saying what is allowed.
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Final

EXIT_CODES: Final = "Exit codes: 0 done, 1 not done, 2 usage, 75 try again later, 78 configuration."

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def add_command(
    commands: "Commands[argparse.ArgumentParser]", name: str, help_text: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with its help, an example and the exit codes."""
    return commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"Example:\n  {example}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the configuration."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="configuration file (TOML); without it defaults and PERUSERD_… in the environment",
    )


def add_actions(
    parser: argparse.ArgumentParser, actions: Iterable[tuple[str, str]]
) -> Iterator[argparse.ArgumentParser]:
    """Add the actions of a command, by name and help, with `--config` and `--json`; give their parsers."""
    adding = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_text in actions:
        action = adding.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        add_config_option(action)
        action.add_argument("--json", action="store_true", help="print JSON")
        yield action


def count(text: str) -> int:
    """Return a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def number(text: str) -> int:
    """Return a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def port(text: str) -> int:
    """Return a port."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def seconds(text: str) -> float:
    """Return a time in seconds, up to a day."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, up to a day")
    return found


def rate(text: str) -> float:
    """Return how many a second."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number a second")
    return found


def account(text: str) -> str:
    """Return an account as NAME:PASSWORD."""
    name, separator, password = text.partition(":")
    if not (name and separator and password):
        raise argparse.ArgumentTypeError("an account is written NAME:PASSWORD")
    return text
