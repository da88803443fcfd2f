"""Parts shared by the parsers of commands: adding a command, its options, and checks of their values.

The functions for values raise ArgumentTypeError, and its message says what is allowed.
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, NoReturn


def exit_codes(done: str = "done", not_done: str = "not done", later: str = "try again later") -> str:
    """Return the sentence about exit codes; the codes without a parameter mean the same for every command."""
    return f"Exit codes: 0 {done}, 1 {not_done}, 2 usage, 75 {later}, 78 configuration, 130 interrupted."


EXIT_CODES: Final = exit_codes()

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


class UsageError(Exception):
    """Arguments that cannot be understood; `usage` is the text on how to call the command."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors, so that they are printed in the same way as errors of commands."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog.partition(' ')[2] or 'arguments'}: {message}", self.format_usage())


class Once(argparse.Action):
    """An option with one value and the default None.

    An option that is given twice is refused, because otherwise only its last value would count.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - an interface
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002 - an interface
    ) -> None:
        """Take the value."""
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "given twice; it has one value")
        setattr(namespace, self.dest, values)


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the lines of examples, fills all other text, and adds each option's default."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(part if "\n" in part else fill(part, width, indent) for part in text.split("\n\n"))

    def _get_help_string(self, action: argparse.Action) -> str:
        words = action.help or ""
        has_default = action.default not in (None, argparse.SUPPRESS, False, [])
        return f"{words} (default: %(default)s)" if action.option_strings and has_default else words

    def words_about(self, action: argparse.Action) -> str:
        """Return the help of an argument, with its default."""
        return self._expand_help(action)


def add_command(
    commands: "Commands[argparse.ArgumentParser]", name: str, help_text: str, example: str, *, codes: str = EXIT_CODES
) -> argparse.ArgumentParser:
    """Add a command with its help, an example and the exit codes."""
    return commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"Example:\n  {example}\n\n{codes}",
        formatter_class=HelpFormatter,
    )


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the configuration."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="configuration file (default: none, so that the defaults and PERUSERD_… in the environment count)",
    )


def add_json_option(parser: argparse.ArgumentParser, *, more: str = "") -> None:
    """Add the option for scripts; `more` is a text about the document."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON document{more}, also where it fails")


class Action(NamedTuple):
    """An action of a command: its name, its help, and an example."""

    name: str
    help_text: str
    example: str


def add_actions(
    parser: argparse.ArgumentParser, actions: Iterable[Action], *, codes: str = EXIT_CODES
) -> Iterator[argparse.ArgumentParser]:
    """Add the actions of a command, with `--config` and `--json`; give their parsers."""
    adding = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_text, example in actions:
        action = add_command(adding, name, help_text, example, codes=codes)
        add_config_option(action)
        add_json_option(action)
        yield action


def count(text: str) -> int:
    """Return a whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def threads(text: str) -> int:
    """Return a number of requests that may be under way at once; each has a thread and a connection."""
    found = count(text)
    if found > _MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MAX_THREADS}")
    return found


# CouchDB answers no faster with more than some dozens.
_MAX_THREADS: Final = 256


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
    """Return a number a second; the least is one in a quarter of an hour, because nobody can wait for ever."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0.001 <= found <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number a second from 0.001 to 100000")
    return found


def account(text: str) -> str:
    """Return an account as NAME:PASSWORD."""
    name, separator, password = text.partition(":")
    if not (name and separator and password):
        raise argparse.ArgumentTypeError("an account is written NAME:PASSWORD")
    return text
