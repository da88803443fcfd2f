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
from peruserd.core.findings import Finding
from peruserd.core.quarantine import KINDS

EXIT_DONE: Final = 0
EXIT_NOT_DONE: Final = 1
EXIT_USAGE: Final = 2
EXIT_LATER: Final = 75
EXIT_CONFIGURATION: Final = 78

_EXIT_CODES: Final = "Exit codes: 0 done, 1 not done, 2 usage, 75 try again later, 78 configuration."


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
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"peruserd {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in _ADDERS:
        add(commands)
    return parser


Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def _add(
    commands: "Commands[argparse.ArgumentParser]", name: str, help_text: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"Example:\n  {example}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_config_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="configuration file (TOML); without it defaults and PERUSERD_… in the environment",
    )


def _add_run(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "run",
        "run the daemon in the foreground until SIGTERM or SIGINT",
        "peruserd run --config peruserd.toml",
    )
    _add_config_option(parser)


def _add_check(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "check",
        "check the configuration and the server, and say what the daemon would do; changes nothing",
        "peruserd check --config /etc/peruserd/peruserd.toml",
    )
    _add_config_option(parser)


def _add_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    _add(commands, "config", "print the default configuration, each key explained", "peruserd config > peruserd.toml")


def _add_name(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "name",
        "print the name of a user's database, or with --decode the user's name of a database",
        "peruserd name alice 'José'\n  peruserd name --decode userdb-616c696365",
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="user names; with --decode names of databases")
    parser.add_argument("--decode", action="store_true", help="from databases to users")
    parser.add_argument("--prefix", default=None, help="prefix of the databases (default: as configured, userdb-)")
    _add_config_option(parser)


def _add_owner(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "owner",
        "say which instance serves a user and why: hash, range, hosts in order, who is alive",
        "peruserd owner alice --config peruserd.toml",
    )
    parser.add_argument("users", metavar="USER", nargs="+", help="user names")
    _add_observing_options(parser)


def _add_plan(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "plan",
        "show who is alive and which instance listens to which range",
        "peruserd plan --config peruserd.toml",
    )
    _add_observing_options(parser)


def _add_observing_options(parser: argparse.ArgumentParser) -> None:
    _add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="take every lease at its word, instead of watching for a sign of life (a few seconds)",
    )


def _add_wait(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "wait",
        "wait until users are served; asks the server, so it needs no daemon here",
        "peruserd wait alice --timeout 30 --config peruserd.toml",
    )
    parser.add_argument("users", metavar="USER", nargs="+", help="user names")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long to wait (60); 0: look once"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")
    _add_config_option(parser)


def _add_deletions(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "deletions",
        "list the databases that wait to be deleted, cancel or hasten one, pause and resume all",
        "peruserd deletions list\n  peruserd deletions cancel alice\n  peruserd deletions resume --only bob",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_text, users in _DELETION_ACTIONS:
        action = actions.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        _add_config_option(action)
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "list":
            action.add_argument("--all", action="store_true", help="also what has ended")
        if name == "resume":
            action.add_argument("--only", dest="users", metavar="USER", nargs="+", help="let only these go on")
        else:
            action.add_argument("users", metavar="USER", nargs=users, help="user names")


_DELETION_ACTIONS: Final = (
    ("list", "list what waits, in the order in which it is due; asks the server, not the daemon", "*"),
    ("cancel", "keep the databases of these deleted users for good; they stay without access", "+"),
    ("drop-now", "delete these databases now, without waiting for the grace period", "+"),
    ("release", "let users in who came back under the name of a deleted one, to all that is in the database", "+"),
    ("pause", "delete nothing until resumed, in the whole cluster; with names, only nothing of these", "*"),
    ("resume", "go on after a pause or a stop by the breaker", "*"),
)


def _add_quarantine(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "quarantine",
        "list the users whom this node's instance could not serve, try them now, or forget them",
        "peruserd quarantine list\n  peruserd quarantine show alice\n  peruserd quarantine retry --kind held",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_text in _QUARANTINE_ACTIONS:
        action = actions.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        _add_config_option(action)
        action.add_argument("--json", action="store_true", help="print JSON")
        action.add_argument("--kind", choices=sorted(KINDS), metavar="KIND", help="only users who failed so")
        if name in ("retry", "forget"):
            action.add_argument("--all", action="store_true", help="all users in quarantine here")
        action.add_argument("users", metavar="USER", nargs="*", help="user names")


_QUARANTINE_ACTIONS: Final = (
    ("list", "list users in quarantine, those whom time alone does not help first"),
    ("show", "say all that is known of users in quarantine"),
    ("retry", "try users in quarantine now"),
    ("forget", "take users out of quarantine; only another change of their documents or the audit finds them again"),
)


def _add_templates(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "templates",
        "say how users' databases stand to the templates and rights that are configured, and roll these out",
        "peruserd templates status\n  peruserd templates rollout --dry-run\n  peruserd templates rollout --rate 50",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, help_text in _TEMPLATE_ACTIONS:
        action = actions.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        _add_config_option(action)
        action.add_argument("--json", action="store_true", help="print JSON")
        action.add_argument("--rate", type=_rate, default=50.0, metavar="N", help="users a second at most (50)")
        if name == "rollout":
            action.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be changed")
            action.add_argument(
                "--overwrite", action="store_true", help="also write over documents that users changed or deleted"
            )
            action.add_argument(
                "--max-failures",
                type=_number,
                default=0,
                metavar="N",
                help="stop after the group of users in which there are more failures than this in all (0)",
            )


_TEMPLATE_ACTIONS: Final = (
    ("status", "count what is up to date, out of date, missing, and changed by users; changes nothing"),
    ("rollout", "bring the databases that are there to the templates and rights that are configured now"),
)


def _add_audit(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "audit",
        "look at every user's database in each copy, and list what is other than it should be; changes nothing itself",
        "peruserd audit\n  peruserd audit --repair\n  peruserd audit --user alice bob --json",
    )
    _add_config_option(parser)
    parser.add_argument("--repair", action="store_true", help="let the running daemon put right what it can")
    parser.add_argument("--dry-run", action="store_true", help="with --repair: only say what would be done")
    parser.add_argument("--user", dest="users", metavar="USER", nargs="+", default=[], help="only these users")
    parser.add_argument(
        "--ignore",
        metavar="KIND",
        nargs="+",
        type=Finding,
        choices=list(Finding),
        default=[],
        help=f"pass over findings of these kinds: {', '.join(Finding)}",
    )
    parser.add_argument("--threads", type=_count, default=8, help="requests under way at once (8)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_migrate(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "migrate",
        "move in from CouchDB's couch_peruser: print the configuration that does the same, what differs, and in which "
        "order to switch; changes nothing",
        "peruserd migrate --config peruserd.toml\n  peruserd migrate --check",
    )
    _add_config_option(parser)
    parser.add_argument("--check", action="store_true", help="print only what differs, and exit 1 if anything does")
    parser.add_argument("--threads", type=_count, default=4, help="requests under way at once (4)")
    parser.add_argument("--json", action="store_true", help="print JSON, with all names")


def _add_demo(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "demo",
        "watch peruserd serve a simulated cluster: users sign up, a listener is killed and comes back",
        "peruserd demo --nodes 3 --q 4 --users 500 --once --json",
    )
    parser.add_argument("--nodes", type=_count, default=3, help="nodes of the cluster, an instance beside each (3)")
    parser.add_argument("--q", type=_count, default=4, help="ranges of the authentication database (4)")
    parser.add_argument("--users", type=_count, default=200, help="users that sign up (200)")
    parser.add_argument("--rate", type=_rate, default=50.0, help="sign-ups a second (50)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="makes names and the kill repeatable")
    parser.add_argument("--once", action="store_true", help="end when all are served, instead of after a last look")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end and nothing else")


def _add_simcluster(commands: "Commands[argparse.ArgumentParser]") -> None:
    parser = _add(
        commands,
        "simcluster",
        "run only the simulated cluster, until stopped",
        "peruserd simcluster --nodes 3 --q 2 --port 15984 --user adm:pass",
    )
    parser.add_argument("--nodes", type=_count, default=3, help="how many nodes (3)")
    parser.add_argument("--q", type=_count, default=2, help="ranges of the authentication database (2)")
    parser.add_argument("--n", type=_count, default=3, help="copies of each range (3)")
    parser.add_argument(
        "--port", type=_port, default=15984, help="port of the first node, each next one 10000 above; 0: free ones"
    )
    parser.add_argument(
        "--user", type=_account, default="adm:pass", metavar="NAME:PASSWORD", help="the admin (adm:pass)"
    )
    parser.add_argument(
        "--control-port", type=_port, default=None, metavar="PORT", help="also serve the controls there"
    )


_ADDERS: Final = (
    _add_run,
    _add_check,
    _add_config,
    _add_name,
    _add_owner,
    _add_plan,
    _add_wait,
    _add_deletions,
    _add_quarantine,
    _add_templates,
    _add_audit,
    _add_migrate,
    _add_demo,
    _add_simcluster,
)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, up to a day")
    return seconds


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number a second")
    return rate


def _account(text: str) -> str:
    name, separator, password = text.partition(":")
    if not (name and separator and password):
        raise argparse.ArgumentTypeError("an account is written NAME:PASSWORD")
    return text
