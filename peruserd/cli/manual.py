"""`peruserd manual`: the manual pages, made from the parsers of the commands and the types of the configuration."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from peruserd import __version__
from peruserd.cli.arguments import EXIT_CODES, HelpFormatter
from peruserd.cli.installing_parsers import COMMANDS_PAGE, CONFIGURATION_PAGE
from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE, build_parser
from peruserd.cli.roff import Page, bold, italic, plain
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.sample import explained, toml

_FILES: Final = {
    "/etc/peruserd/peruserd.toml": "The configuration of the service. See peruserd.toml(5).",
    "/etc/peruserd/couchdb-password": "The password of the service's account, with mode 0600.",
    "/var/lib/peruserd": "The state: checkpoints and quarantine. Losing it costs one scan of the users.",
    "/var/log/peruserd": "Where the service can keep the file of log.audit_file.",
}
_DESCRIPTION: Final = (
    "For each document in the authentication database, peruserd keeps a private database. Only this user and server "
    "admins may read and write it. One instance runs beside each node of a CouchDB cluster, and the instances share "
    "the users out."
)
_ENVIRONMENT: Final = {
    "PERUSERD_COUCHDB_PASSWORD": "The password, where neither the configuration nor a systemd credential has it.",
    "PERUSERD_<TABLE>_<KEY>": "A value that overrides this key of the configuration, as in PERUSERD_COUCHDB_URL.",
    "STATE_DIRECTORY": "The state directory, where the configuration names none. systemd sets it.",
    "CREDENTIALS_DIRECTORY": "Where the credential couchdb-password is. systemd sets it.",
}

_SIGNALS: Final = {
    "SIGTERM, SIGINT": "The daemon finishes what is under way, saves, releases its lease, and ends with 0.",
    "SIGHUP": "The daemon reads its configuration again. peruserd reload does the same, and says what came of it.",
}


def run(options: argparse.Namespace) -> int:
    """Print one page."""
    text = PAGES[options.page]()
    if options.json:
        print_json({"page": options.page, "text": text})
    else:
        sys.stdout.write(text)
    return EXIT_DONE


def commands_page() -> str:
    """Return peruserd(1)."""
    parser = build_parser()
    page = Page("peruserd", 1, source=f"peruserd {__version__}", manual="User Commands")
    page.section("NAME")
    page.text(plain("peruserd - a private database for every CouchDB user"))
    page.section("SYNOPSIS")
    page.text(f"{bold('peruserd')} {italic('COMMAND')} [{italic('OPTION')} ...]")
    page.section("DESCRIPTION")
    page.text(plain(_DESCRIPTION))
    leaves = list(_leaves(parser))
    common = _common_options(leaves)
    page.section("COMMON OPTIONS")
    page.text(plain("Many commands understand these options. The line with the usage of each shows whether it does."))
    for term, words in common.items():
        page.item(term, plain(words))
    page.section("COMMANDS")
    for each in leaves:
        _add_command(page, each, common)
    page.section("EXIT STATUS")
    for code in _exit_codes(parser):
        number, _, meaning = code.partition(" ")
        page.item(bold(number), plain(meaning))
    _add_terms(page, "SIGNALS", _SIGNALS)
    _add_terms(page, "ENVIRONMENT", _ENVIRONMENT)
    _add_terms(page, "FILES", _FILES)
    page.section("SEE ALSO")
    page.text(f"{bold('peruserd.toml')}(5), {bold('systemctl')}(1)")
    return str(page)


def configuration_page() -> str:
    """Return peruserd.toml(5)."""
    page = Page("peruserd.toml", 5, source=f"peruserd {__version__}", manual="File Formats")
    page.section("NAME")
    page.text(plain("peruserd.toml - configuration of peruserd"))
    page.section("DESCRIPTION")
    page.text(
        plain(
            "The file is TOML, and is decoded strictly: an unknown key or an impossible value ends the start with 78. "
            "Each key has the default that is shown. Times are in seconds. "
            "The environment overrides each key as PERUSERD_<TABLE>_<KEY>."
        )
    )
    page.paragraph(f"{bold('peruserd config')} prints a file with every key, which can be used as it is.")
    keys = explained()
    for table in msgspec.structs.fields(Config):
        page.section(f"[{table.name}]")
        page.text(plain(table.type.__doc__.strip()))
        for name, key in keys[table.name].items():
            value = "" if key.default is None else f" = {plain(toml(key.default))}"
            page.item(bold(name) + value, plain(key.description))
    page.section("EXAMPLE")
    page.example('[couchdb]\nurl = "http://127.0.0.1:5984"\nusername = "peruserd"')
    page.section("SEE ALSO")
    page.text(f"{bold('peruserd')}(1)")
    return str(page)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    COMMANDS_PAGE: commands_page,
    CONFIGURATION_PAGE: configuration_page,
}


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Return the parsers of commands and actions that have no further ones below them."""
    adding = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001 - not public
    if not adding:
        yield parser
    for each in adding:
        for below in each.choices.values():
            yield from _leaves(below)


def _common_options(leaves: Sequence[argparse.ArgumentParser]) -> dict[str, str]:
    """Return the terms and the help of those options that are the same for half of the commands."""
    count = Counter(pair for each in leaves for pair in _items(each))
    return {term: words for (term, words), times in count.items() if times > len(leaves) // 2}


def _items(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Return each argument of a command, as it is written, with its help."""
    formatter = HelpFormatter(parser.prog)
    options, arguments = _arguments(parser)
    terms = [*((_value_of(each), each) for each in arguments), *((_term_of_option(each), each) for each in options)]
    return [(term, formatter.words_about(each)) for term, each in terms]


def _add_command(page: Page, parser: argparse.ArgumentParser, common: Mapping[str, str]) -> None:
    options, arguments = _arguments(parser)
    page.subsection(bold(parser.prog))
    usage = [*map(_usage_of_option, options), *map(_usage_of_argument, arguments)]
    page.text(" ".join([bold(parser.prog), *usage]))
    page.paragraph(plain(parser.description or ""))
    for term, words in _items(parser):
        if common.get(term) != words:
            page.item(term, plain(words))
    example, _, codes = (parser.epilog or "").partition("\n\n")
    page.paragraph(plain("Example:"))
    page.example("\n".join(line.strip() for line in example.splitlines()[1:]))
    if codes != EXIT_CODES:
        page.paragraph(plain(codes))


def _arguments(parser: argparse.ArgumentParser) -> tuple[list[argparse.Action], list[argparse.Action]]:
    """Return the options of a command but `--help`, and its positional arguments."""
    actions = [each for each in parser._actions if each.dest != "help"]  # noqa: SLF001 - not public
    return [each for each in actions if each.option_strings], [each for each in actions if not each.option_strings]


def _usage_of_option(option: argparse.Action) -> str:
    return f"[{_term_of_option(option)}]"


def _usage_of_argument(argument: argparse.Action) -> str:
    return f"[{_value_of(argument)}]" if argument.nargs in ("*", "?") else _value_of(argument)


def _term_of_option(option: argparse.Action) -> str:
    names = ", ".join(map(bold, option.option_strings))
    return names if option.nargs == 0 else f"{names} {_value_of(option)}"


def _value_of(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return italic(name) + (" ..." if action.nargs in ("+", "*") else "")


def _exit_codes(parser: argparse.ArgumentParser) -> list[str]:
    _, _, codes = (parser.epilog or "").partition("Exit codes: ")
    return codes.rstrip(".").split(", ")


def _add_terms(page: Page, title: str, terms: Mapping[str, str]) -> None:
    page.section(title)
    for term, words in terms.items():
        page.item(bold(term), plain(words))
