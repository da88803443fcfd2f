"""The parsers of the commands by which an operator sees to users' databases."""

import argparse
from typing import Final

from peruserd.cli.arguments import Commands, add_actions, add_command, add_config_option, count, number, rate
from peruserd.core.findings import Finding
from peruserd.core.quarantine import KINDS


def add_deletions(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd deletions`."""
    parser = add_command(
        commands,
        "deletions",
        "list the databases that wait to be deleted, cancel or hasten one, pause and resume all",
        "peruserd deletions list\n  peruserd deletions cancel alice\n  peruserd deletions resume --only bob",
    )
    actions = add_actions(parser, ((name, help_text) for name, help_text, _ in _DELETION_ACTIONS))
    for action, (name, _, users) in zip(actions, _DELETION_ACTIONS, strict=True):
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


def add_quarantine(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd quarantine`."""
    parser = add_command(
        commands,
        "quarantine",
        "list the users whom this node's instance could not serve, try them now, or forget them",
        "peruserd quarantine list\n  peruserd quarantine show alice\n  peruserd quarantine retry --kind held",
    )
    for action, (name, _) in zip(add_actions(parser, _QUARANTINE_ACTIONS), _QUARANTINE_ACTIONS, strict=True):
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


def add_templates(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd templates`."""
    parser = add_command(
        commands,
        "templates",
        "say how users' databases stand to the templates and rights that are configured, and roll these out",
        "peruserd templates status\n  peruserd templates rollout --dry-run\n  peruserd templates rollout --rate 50",
    )
    for action, (name, _) in zip(add_actions(parser, _TEMPLATE_ACTIONS), _TEMPLATE_ACTIONS, strict=True):
        action.add_argument("--rate", type=rate, default=50.0, metavar="N", help="users a second at most (50)")
        if name == "rollout":
            action.add_argument("--dry-run", action="store_true", help="change nothing, and say what would be changed")
            action.add_argument(
                "--overwrite", action="store_true", help="also write over documents that users changed or deleted"
            )
            action.add_argument(
                "--max-failures",
                type=number,
                default=0,
                metavar="N",
                help="stop after the group of users in which there are more failures than this in all (0)",
            )


_TEMPLATE_ACTIONS: Final = (
    ("status", "count what is up to date, out of date, missing, and changed by users; changes nothing"),
    ("rollout", "bring the databases that are there to the templates and rights that are configured now"),
)


def add_audit(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd audit`."""
    parser = add_command(
        commands,
        "audit",
        "look at every user's database in each copy, and list what is other than it should be; changes nothing itself",
        "peruserd audit\n  peruserd audit --repair\n  peruserd audit --user alice bob --json",
    )
    add_config_option(parser)
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
    parser.add_argument("--threads", type=count, default=8, help="requests under way at once (8)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_migrate(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd migrate`."""
    parser = add_command(
        commands,
        "migrate",
        "move in from CouchDB's couch_peruser: print the configuration that does the same, what differs, and in which "
        "order to switch; changes nothing",
        "peruserd migrate --config peruserd.toml\n  peruserd migrate --check",
    )
    add_config_option(parser)
    parser.add_argument("--check", action="store_true", help="print only what differs, and exit 1 if anything does")
    parser.add_argument("--threads", type=count, default=4, help="requests under way at once (4)")
    parser.add_argument("--json", action="store_true", help="print JSON, with all names")
