"""`peruserd name`: from users to databases and back."""

import argparse
import sys

from peruserd.cli.loading import complain, load_file
from peruserd.cli.parser import EXIT_CONFIGURATION, EXIT_DONE, EXIT_NOT_DONE, EXIT_USAGE
from peruserd.core.decoding import ConfigError
from peruserd.core.names import UnservableNameError, check_prefix, database_name, decode_database_name


def run(options: argparse.Namespace) -> int:
    """Print one line for each name; those that have no answer go to standard error, and the exit code is 1."""
    try:
        prefix = options.prefix if options.prefix is not None else load_file(options.config).config.databases.prefix
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
    try:
        check_prefix(prefix)
    except ValueError as error:
        print(f"peruserd name: --prefix {prefix!r}: {error}", file=sys.stderr)
        return EXIT_USAGE
    code = EXIT_DONE
    for name in options.names:
        try:
            print(_decoded(prefix, name) if options.decode else database_name(prefix, name))
        except (UnservableNameError, LookupError) as error:
            print(f"peruserd name: {name!r}: {error.args[0]}", file=sys.stderr)
            code = EXIT_NOT_DONE
    return code


def _decoded(prefix: str, database: str) -> str:
    user = decode_database_name(prefix, database)
    if user is None:
        raise LookupError(f"not the name of a user's database with the prefix {prefix!r}")
    return user
