"""The parsers of the operator's commands on users' databases."""

import argparse
from typing import Final

from peruserd.cli.arguments import (
    Action,
    Commands,
    Once,
    add_actions,
    add_command,
    add_config_option,
    add_json_option,
    exit_codes,
    number,
    rate,
    threads,
)
from peruserd.core.audit.findings import Finding
from peruserd.core.users.quarantine import KINDS


def add_deletions(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd deletions`."""
    parser = add_command(
        commands,
        "deletions",
        "list the databases that wait to be deleted, cancel or hasten one, pause and resume all",
        "peruserd deletions list\n  peruserd deletions cancel alice\n  peruserd deletions resume --only bob",
        codes=_ORDER_CODES,
    )
    actions = add_actions(parser, (action for action, _ in _DELETION_ACTIONS), codes=_ORDER_CODES)
    for action, ((name, _, _), users) in zip(actions, _DELETION_ACTIONS, strict=True):
        if name == "list":
            action.add_argument("--all", action="store_true", help="also list ended entries")
        if name == "resume":
            action.add_argument(
                "--only",
                dest="users",
                metavar="USER",
                nargs="+",
                action="extend",
                help="resume only these users' deletions (default: all)",
            )
        else:
            action.add_argument("users", metavar="USER", nargs=users, help=_USERS[users])


_ORDER_CODES: Final = exit_codes(
    not_done="nothing waits for a named user, or the daemon refused",
    later="no daemon runs here, or the server does not answer",
)

_USERS: Final = {"+": "user names", "*": "user names (default: all)"}

_DELETION_ACTIONS: Final = (
    (
        Action(
            "list",
            "list the waiting deletions by due date; asks the server, not the daemon",
            "peruserd deletions list --all --json",
        ),
        "*",
    ),
    (
        Action(
            "cancel",
            "keep the databases of these deleted users for good; they stay without access",
            "peruserd deletions cancel alice",
        ),
        "+",
    ),
    (
        Action(
            "drop-now",
            "delete these databases now, without waiting for the grace period",
            "peruserd deletions drop-now alice",
        ),
        "+",
    ),
    (
        Action(
            "release",
            "let returned users in, to everything that a deleted user of the same name has left",
            "peruserd deletions release alice",
        ),
        "+",
    ),
    (
        Action(
            "pause",
            "pause all deletions of the cluster until resumed; with names, only theirs",
            "peruserd deletions pause",
        ),
        "*",
    ),
    (
        Action("resume", "go on after a pause or a stop by the breaker", "peruserd deletions resume --only alice"),
        "*",
    ),
)


def add_quarantine(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd quarantine`."""
    parser = add_command(
        commands,
        "quarantine",
        "list the users whom this node's instance could not serve, try them now, or forget them",
        "peruserd quarantine list\n  peruserd quarantine show alice\n  peruserd quarantine retry --kind held",
        codes=_QUARANTINE_CODES,
    )
    actions = add_actions(parser, _QUARANTINE_ACTIONS, codes=_QUARANTINE_CODES)
    for action, (name, _, _) in zip(actions, _QUARANTINE_ACTIONS, strict=True):
        action.add_argument(
            "--kind",
            action=Once,
            choices=sorted(KINDS),
            metavar="KIND",
            help=f"only users with this kind of failure (default: all kinds): {', '.join(sorted(KINDS))}",
        )
        if name in ("retry", "forget"):
            action.add_argument("--all", action="store_true", help="all users in quarantine here")
        everybody = "" if name in ("retry", "forget") else " (default: all)"
        action.add_argument("users", metavar="USER", nargs="*", help=f"user names{everybody}")


_QUARANTINE_CODES: Final = exit_codes(
    not_done="a named user is not in quarantine here, or the daemon refused",
    later="no daemon runs here, or a part of it did not answer",
)

_QUARANTINE_ACTIONS: Final = (
    Action(
        "list",
        "list users in quarantine; first those who need somebody's help",
        "peruserd quarantine list --kind held",
    ),
    Action("show", "show everything known about users in quarantine", "peruserd quarantine show alice"),
    Action("retry", "try users in quarantine now", "peruserd quarantine retry --all"),
    Action(
        "forget",
        "take users out of quarantine; only another change of their documents or the audit finds them again",
        "peruserd quarantine forget alice",
    ),
)


def add_templates(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd templates`."""
    parser = add_command(
        commands,
        "templates",
        "compare users' databases with the configured templates and rights, and roll these out",
        "peruserd templates status\n  peruserd templates rollout --dry-run\n  peruserd templates rollout --rate 50",
        codes=_TEMPLATE_CODES,
    )
    actions = add_actions(parser, _TEMPLATE_ACTIONS, codes=_TEMPLATE_CODES)
    for action, (name, _, _) in zip(actions, _TEMPLATE_ACTIONS, strict=True):
        action.add_argument("--rate", type=rate, default=50.0, metavar="N", help="users a second at most")
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
                help="stop after a group of users once there are more failures than this in all",
            )


_TEMPLATE_CODES: Final = exit_codes(
    done="everything is as configured, or would be",
    not_done="something remains to be done, or failed",
    later="the server does not answer",
)

_TEMPLATE_ACTIONS: Final = (
    Action(
        "status",
        "count what is up to date, out of date, missing, and changed by users; changes nothing",
        "peruserd templates status",
    ),
    Action(
        "rollout",
        "update the existing databases to the configured templates and rights",
        "peruserd templates rollout --dry-run",
    ),
)


def add_audit(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd audit`."""
    parser = add_command(
        commands,
        "audit",
        "check every user's database in each copy, and list the differences; changes nothing itself",
        "peruserd audit\n  peruserd audit --repair\n  peruserd audit --user alice bob --json",
        codes=exit_codes(
            done="nothing differs",
            not_done="something differs, or a named user does not exist",
            later="not everything could be seen, or no daemon or server answered",
        ),
    )
    add_config_option(parser)
    parser.add_argument("--repair", action="store_true", help="let the running daemon repair what it can")
    parser.add_argument("--dry-run", action="store_true", help="with --repair: only say what would be done")
    parser.add_argument(
        "--user",
        dest="users",
        metavar="USER",
        nargs="+",
        action="extend",
        default=[],
        help="only these users (default: all)",
    )
    parser.add_argument(
        "--ignore",
        metavar="KIND",
        nargs="+",
        action="extend",
        type=_finding,
        default=[],
        help=f"ignore findings of these kinds (default: none): {', '.join(Finding)}",
    )
    parser.add_argument("--threads", type=threads, default=8, metavar="N", help="requests under way at once")
    add_json_option(parser)


def _finding(text: str) -> Finding:
    """Return a kind of finding. The error for an unknown kind lists them all."""
    try:
        return Finding(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no kind of finding; there are {', '.join(Finding)}") from None


def add_migrate(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd migrate`."""
    parser = add_command(
        commands,
        "migrate",
        "move from CouchDB's couch_peruser to peruserd: print the configuration that does the same, the differences, "
        "and the order in which to switch; changes nothing",
        "peruserd migrate --config peruserd.toml\n  peruserd migrate --check",
        codes=exit_codes(not_done="with --check: something differs"),
    )
    add_config_option(parser)
    parser.add_argument("--check", action="store_true", help="print only what differs, and exit 1 if anything does")
    parser.add_argument("--threads", type=threads, default=4, metavar="N", help="requests under way at once")
    add_json_option(parser, more=", with all names")
