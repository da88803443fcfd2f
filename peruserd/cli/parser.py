"""The command line: the parsers of all commands, and the exit codes of errors.

0 done, 1 not done, 2 usage, 75 try again later, 78 configuration (sysexits' EX_TEMPFAIL and EX_CONFIG), 130 interrupted
by Ctrl-C, as in shells.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from peruserd import __version__
from peruserd.cli import output
from peruserd.cli.arguments import (
    EXIT_CODES,
    Commands,
    HelpFormatter,
    Parser,
    UsageError,
    add_command,
    add_config_option,
    add_json_option,
    count,
    exit_codes,
    rate,
    seconds,
)
from peruserd.cli.installing_parsers import add_completion, add_manual, add_monitoring, add_unit
from peruserd.cli.instance_parsers import add_drain, add_listeners, add_reload, add_restart_listener, add_status
from peruserd.cli.operator_parsers import add_audit, add_deletions, add_migrate, add_quarantine, add_templates
from peruserd.cli.simcluster_options import add_simcluster
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import TemporaryError, exit_code_of

EXIT_DONE: Final = 0
EXIT_NOT_DONE: Final = 1
EXIT_USAGE: Final = 2
EXIT_LATER: Final = 75
EXIT_CONFIGURATION: Final = 78
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    output.prepare()
    try:
        try:
            code = _run(given)
        finally:
            # The flush is here, because an error at Python's own end cannot be caught.
            sys.stdout.flush()
    except output.OutputError as error:
        output.give_up(error)
        return EXIT_LATER if error.is_passing else EXIT_NOT_DONE
    except KeyboardInterrupt:
        # This interruption came before the command began or after it ended.
        output.say("interrupted")
        return EXIT_INTERRUPTED
    return code


def _run(given: Sequence[str]) -> int:
    as_json = "--json" in given
    try:
        options = build_parser(given[0] if given else None).parse_args(given)
        as_json = getattr(options, "json", False)
        code: int = _module(options.command).run(options)
    except UsageError as error:
        output.say_as_it_is(error.usage)
        return output.fail(output.CommandError(EXIT_USAGE, "usage", str(error)), as_json=as_json)
    except output.CommandError as error:
        return output.fail(error, as_json=as_json)
    except ConfigError as error:
        kind = "unavailable" if isinstance(error, TemporaryError) else "configuration"
        return output.fail(output.CommandError(exit_code_of(error), kind, *error.problems), as_json=as_json)
    except KeyboardInterrupt:
        return output.fail(output.CommandError(EXIT_INTERRUPTED, "interrupted", "interrupted"), as_json=as_json)
    return code


def _module(command: str) -> ModuleType:
    """Import the module of a command; CommandError if there is no place for temporary files."""
    try:
        return importlib.import_module(f"peruserd.cli.{command.replace('-', '_')}")
    except FileNotFoundError as error:
        # A library of ours looks for that place when it is imported, and tries to write there.
        words = f"{error.strerror}; is the disk full, or the root read-only without a writable /tmp?"
        raise output.CommandError(EXIT_LATER, "no_temporary_directory", words) from error


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of the one with this name alone, which takes a twentieth of the time.

    Any other word gets the parser of all commands, because the help and the error name them.
    """
    parser: argparse.ArgumentParser = Parser(
        prog="peruserd",
        description="A private database for every CouchDB user, kept by one process for each shard.",
        epilog=f"`peruserd COMMAND --help` says more about each.\n\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"peruserd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in _ADDERS.values() if command not in _ADDERS else (_ADDERS[command],):
        add(commands)
    return parser


def _add_run(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "run",
        "run the daemon in the foreground until SIGTERM or SIGINT",
        "peruserd run --config peruserd.toml",
    )
    add_config_option(parser)


def _add_check(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "check",
        "check the configuration and the server, and say what the daemon would do; changes nothing",
        "peruserd check --config /etc/peruserd/peruserd.toml",
        codes=exit_codes(not_done="something stands in the way of serving users", later="the server does not answer"),
    )
    add_config_option(parser)
    add_json_option(parser)


def _add_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands, "config", "print the default configuration, each key explained", "peruserd config > peruserd.toml"
    )
    add_json_option(parser)


def _add_name(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "name",
        "print the name of a user's database, or with --decode the user's name of a database",
        "peruserd name alice 'José'\n  peruserd name --decode userdb-616c696365\n  peruserd name --hash alice",
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="user names; with --decode names of databases")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--decode", action="store_true", help="from databases to users")
    other.add_argument("--hash", action="store_true", help="print what log lines have in place of the names")
    parser.add_argument("--prefix", default=None, help="prefix of the databases (default: as configured, userdb-)")
    add_config_option(parser)
    add_json_option(parser)


def _add_owner(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "owner",
        "say which instance serves a user and why: hash, range, hosts in order, who is alive",
        "peruserd owner alice --config peruserd.toml",
    )
    parser.add_argument("users", metavar="USER", nargs="+", help="user names")
    _add_observing_options(parser)


def _add_plan(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "plan",
        "show who is alive and which instance listens to which range",
        "peruserd plan --config peruserd.toml",
    )
    _add_observing_options(parser)


def _add_observing_options(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser)
    add_json_option(parser)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="count every lease as alive, instead of watching for a sign of life (a few seconds, or lease_ttl where "
        "one is silent)",
    )


def _add_wait(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "wait",
        "wait until users are served; asks the server, so it needs no daemon here",
        "peruserd wait alice --timeout 30 --config peruserd.toml",
    )
    parser.add_argument("users", metavar="USER", nargs="+", help="user names")
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="how long to wait; 0: look once"
    )
    add_json_option(parser)
    add_config_option(parser)


def _add_demo(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "demo",
        "watch peruserd serve a simulated cluster: users sign up, a listener is killed and comes back",
        "peruserd demo --nodes 3 --q 4 --users 500 --once --json",
    )
    nodes = "nodes of the cluster, an instance beside each"
    parser.add_argument("--nodes", type=count, default=3, metavar="N", help=nodes)
    parser.add_argument("--q", type=count, default=4, metavar="N", help="ranges of the authentication database")
    parser.add_argument("--users", type=count, default=200, metavar="N", help="users that sign up")
    parser.add_argument("--rate", type=rate, default=50.0, metavar="N", help="sign-ups a second")
    seed = "makes names and the kill repeatable (default: another one each time)"
    parser.add_argument("--seed", type=int, default=None, metavar="N", help=seed)
    once = "end once all are served and looked at, instead of waiting for Ctrl-C"
    parser.add_argument("--once", action="store_true", help=once)
    stay = "stay until Ctrl-C with the status pages to look at, also with --once"
    parser.add_argument("--stay", action="store_true", help=stay)
    add_json_option(parser)


_ADDERS: Final = {
    "run": _add_run,
    "check": _add_check,
    "config": _add_config,
    "name": _add_name,
    "owner": _add_owner,
    "plan": _add_plan,
    "wait": _add_wait,
    "deletions": add_deletions,
    "quarantine": add_quarantine,
    "templates": add_templates,
    "audit": add_audit,
    "migrate": add_migrate,
    "unit": add_unit,
    "manual": add_manual,
    "completion": add_completion,
    "monitoring": add_monitoring,
    "status": add_status,
    "listeners": add_listeners,
    "restart-listener": add_restart_listener,
    "drain": add_drain,
    "reload": add_reload,
    "demo": _add_demo,
    "simcluster": add_simcluster,
}
