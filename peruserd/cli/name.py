"""`peruserd name`: from user names to database names and back, and to the pseudonyms of the log."""

import argparse

import msgspec

from peruserd.cli.config_file import load_file
from peruserd.cli.output import CommandError, print_json, say
from peruserd.cli.parser import EXIT_DONE, EXIT_NOT_DONE, EXIT_USAGE
from peruserd.core.common.escaping import named, shown
from peruserd.core.common.names import UnservableNameError, check_prefix, database_name, decode_database_name
from peruserd.core.common.pseudonyms import hashed


class _Hashed(msgspec.Struct, frozen=True):
    """A user, and the pseudonym in log lines."""

    user: str
    hash: str


class _Named(msgspec.Struct, frozen=True):
    """A user and the database; where one of the two does not exist, it is None, and `error` says why."""

    user: str | None
    database: str | None
    error: str | None = None


def run(options: argparse.Namespace) -> int:
    """Print one line for each name; exit 1 if any has no answer, with the reason on standard error.

    With `--json` all names are in one list; a name without an answer has an `error`.
    """
    if options.hash:
        return _print_hashes(options)
    prefix = options.prefix if options.prefix is not None else load_file(options.config).config.databases.prefix
    try:
        check_prefix(prefix)
    except ValueError as error:
        raise CommandError(EXIT_USAGE, "usage", f"name: --prefix {shown(prefix)}: {error}") from error
    answers = [_of_database(prefix, name) if options.decode else _of_user(prefix, name) for name in options.names]
    if options.json:
        print_json(answers)
    else:
        for name, found in zip(options.names, answers, strict=True):
            if found.error is None:
                print(shown(found.user or "") if options.decode else found.database)
            else:
                say(f"name: {named(name)}: {found.error}")
    return EXIT_DONE if all(each.error is None for each in answers) else EXIT_NOT_DONE


def _print_hashes(options: argparse.Namespace) -> int:
    """Print the pseudonym of each user, which needs no configuration."""
    found = [_Hashed(name, hashed(name)) for name in options.names]
    if options.json:
        print_json(found)
    else:
        print("\n".join(each.hash for each in found))
    return EXIT_DONE


def _of_user(prefix: str, user: str) -> _Named:
    try:
        return _Named(user, database_name(prefix, user))
    except UnservableNameError as error:
        return _Named(user, None, error.args[0])


def _of_database(prefix: str, database: str) -> _Named:
    user = decode_database_name(prefix, database)
    why = f"not the name of a user's database with the prefix {prefix!r}" if user is None else None
    return _Named(user, database, why)
