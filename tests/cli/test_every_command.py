"""Rules that hold for every command, by its parser and the documents."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.cli.arguments import UsageError
from peruserd.cli.parser import build_parser
from tests.cli.arguments import ARGUMENTS

DOCUMENTS = Path(__file__).parents[2] / "docs" / "commands.md"


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Return the parsers without subcommands, by the words that lead to them."""
    adding = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not adding:
        yield name, parser
    for each in adding:
        for word, below in each.choices.items():
            yield from parsers(below, f"{name} {word}".strip())


ALL = build_parser()
COMMANDS = dict(parsers(ALL))


def test_every_command_has_arguments_for_the_tests() -> None:
    """A command that is added later has its line there."""
    assert ARGUMENTS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"run"}))
def test_every_command_prints_json_if_asked(command: str) -> None:
    """Only the daemon has no `--json`: it writes a log."""
    assert "--json" in COMMANDS[command].format_help()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_a_section_in_the_documents(command: str) -> None:
    """A section names the command, and each of its options."""
    sections = DOCUMENTS.read_text().split("\n## ")
    (section,) = [each for each in sections if each.startswith(f"`peruserd {command.partition(' ')[0]}`")]
    assert f"peruserd {command}" in section
    options = {word for each in COMMANDS[command]._actions for word in each.option_strings if word.startswith("--")}
    common = {"--help", "--config", "--json"}
    assert {each for each in options - common if each not in section} == set()


@pytest.mark.parametrize(
    ("arguments", "key", "values"),
    [
        (["audit", "--repair", "--user", "a", "--user", "b", "c"], "users", ["a", "b", "c"]),
        (["audit", "--ignore", "public", "--ignore", "missing"], "ignore", ["public", "missing"]),
        (["deletions", "resume", "--only", "a", "--only", "b"], "users", ["a", "b"]),
    ],
)
def test_an_option_with_many_values_may_be_given_again(arguments: list[str], key: str, values: list[str]) -> None:
    """The values of all uses count, so no named user is silently dropped."""
    assert getattr(build_parser().parse_args(arguments), key) == values


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_parsed_alone_as_among_all_others(command: str) -> None:
    """A run makes the parser of its own command alone: its help, its arguments and its errors are the same."""
    word = command.partition(" ")[0]
    alone = build_parser(word)
    assert dict(parsers(alone))[command].format_help() == COMMANDS[command].format_help()
    good = [*command.split(), *(each for each in ARGUMENTS[command] if each != "--help")]
    for arguments in (good, [*good, "--unknown"], [word], [word, "unknown"]):
        assert _outcome(alone, arguments) == _outcome(ALL, arguments)


@pytest.mark.parametrize("word", ["--help", "runs", "", None])
def test_a_word_that_is_no_command_gets_the_parser_of_all(word: str | None) -> None:
    """The help and the error list all commands."""
    assert dict(parsers(build_parser(word))).keys() == COMMANDS.keys()


def _outcome(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, object]:
    try:
        return vars(parser.parse_args(arguments))
    except UsageError as error:
        return {"error": str(error), "usage": error.usage}


def test_a_kind_that_is_given_twice_is_refused() -> None:
    """The second one would win, and users of the first kind would be passed over without a word."""
    with pytest.raises(UsageError, match="--kind: given twice"):
        build_parser().parse_args(["quarantine", "retry", "--kind", "held", "--kind", "unforeseen"])
