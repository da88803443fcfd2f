"""`peruserd completion`: what makes a shell complete the commands and their options. The library shtab writes it."""

import argparse
import sys

from peruserd.cli.output import CommandError, print_json
from peruserd.cli.parser import EXIT_DONE, EXIT_USAGE, build_parser


def run(options: argparse.Namespace) -> int:
    """Print the file of one shell."""
    try:
        import shtab  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - an extra, missing in a plain install
    except ModuleNotFoundError as error:
        words = f"completion: {error.name} is missing; install the extra, from the sources: pip install '.[completion]'"
        raise CommandError(EXIT_USAGE, "missing_extra", words) from error
    parser = build_parser()
    _name_files(parser, shtab.FILE)
    script = shtab.complete(parser, options.shell)
    if options.json:
        print_json({"shell": options.shell, "script": script})
    else:
        sys.stdout.write(f"{script.rstrip()}\n")
    return EXIT_DONE


def _name_files(parser: argparse.ArgumentParser, kind: object) -> None:
    """Mark each argument that is a path, so that the shell completes it as one."""
    for action in parser._actions:  # noqa: SLF001 - not public
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - not public
            for below in action.choices.values():
                _name_files(below, kind)
        elif action.metavar in ("FILE", "PATH"):
            action.complete = kind  # type: ignore[attr-defined] # shtab looks for it there
