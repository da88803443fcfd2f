"""The command line: what can be asked for, and how what went wrong becomes an exit code.

0 done, 1 not done, 2 usage, 75 try again later, 78 configuration (sysexits' EX_TEMPFAIL and EX_CONFIG).
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from peruserd import __version__
from peruserd.cli.arguments import (
    EXIT_CODES,
    Commands,
    account,
    add_command,
    add_config_option,
    count,
    port,
    rate,
    seconds,
)
from peruserd.cli.operating import add_audit, add_deletions, add_migrate, add_quarantine, add_templates

EXIT_DONE: Final = 0
EXIT_NOT_DONE: Final = 1
EXIT_USAGE: Final = 2
EXIT_LATER: Final = 75
EXIT_CONFIGURATION: Final = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    command = importlib.import_module(f"peruserd.cli.{options.command}")
    try:
        code: int = command.run(options)
    except BrokenPipeError:
        # The reader of the output has seen enough (`peruserd config | head`); Python must not flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NOT_DONE
    except KeyboardInterrupt:
        return EXIT_NOT_DONE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="peruserd",
        description="A private database for every CouchDB user, kept by one process for each shard.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"peruserd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in _ADDERS:
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
    )
    add_config_option(parser)


def _add_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    add_command(
        commands, "config", "print the default configuration, each key explained", "peruserd config > peruserd.toml"
    )


def _add_name(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "name",
        "print the name of a user's database, or with --decode the user's name of a database",
        "peruserd name alice 'José'\n  peruserd name --decode userdb-616c696365",
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="user names; with --decode names of databases")
    parser.add_argument("--decode", action="store_true", help="from databases to users")
    parser.add_argument("--prefix", default=None, help="prefix of the databases (default: as configured, userdb-)")
    add_config_option(parser)


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
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="take every lease at its word, instead of watching for a sign of life (a few seconds, or lease_ttl where "
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
        "--timeout", type=seconds, default=60.0, metavar="SECONDS", help="how long to wait (60); 0: look once"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")
    add_config_option(parser)


def _add_demo(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "demo",
        "watch peruserd serve a simulated cluster: users sign up, a listener is killed and comes back",
        "peruserd demo --nodes 3 --q 4 --users 500 --once --json",
    )
    parser.add_argument("--nodes", type=count, default=3, help="nodes of the cluster, an instance beside each (3)")
    parser.add_argument("--q", type=count, default=4, help="ranges of the authentication database (4)")
    parser.add_argument("--users", type=count, default=200, help="users that sign up (200)")
    parser.add_argument("--rate", type=rate, default=50.0, help="sign-ups a second (50)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="makes names and the kill repeatable")
    parser.add_argument("--once", action="store_true", help="end when all are served, instead of after a last look")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")


def _add_simcluster(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = add_command(
        commands,
        "simcluster",
        "run only the simulated cluster, until stopped",
        "peruserd simcluster --nodes 3 --q 2 --port 15984 --user adm:pass",
    )
    parser.add_argument("--nodes", type=count, default=3, help="how many nodes (3)")
    parser.add_argument("--q", type=count, default=2, help="ranges of the authentication database (2)")
    parser.add_argument("--n", type=count, default=3, help="copies of each range (3)")
    parser.add_argument(
        "--port", type=port, default=15984, help="port of the first node, each next one 10000 above; 0: free ones"
    )
    parser.add_argument(
        "--user", type=account, default="adm:pass", metavar="NAME:PASSWORD", help="the admin (adm:pass)"
    )
    parser.add_argument("--control-port", type=port, default=None, metavar="PORT", help="also serve the controls there")


_ADDERS: Final = (
    _add_run,
    _add_check,
    _add_config,
    _add_name,
    _add_owner,
    _add_plan,
    _add_wait,
    add_deletions,
    add_quarantine,
    add_templates,
    add_audit,
    add_migrate,
    _add_demo,
    _add_simcluster,
)
