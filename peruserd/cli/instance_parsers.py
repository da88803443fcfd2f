"""The parsers of the operator's commands on the instance of this node."""

import argparse
from typing import Final

from peruserd.cli.arguments import Commands, add_command, add_config_option, add_json_option, exit_codes

_NO_DAEMON: Final = "no daemon runs here, or it does not answer"


def add_status(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd status`."""
    parser = add_command(
        commands,
        "status",
        "show what the daemon of this node does: health, owners, listeners, quarantine, last changes of the plan",
        "peruserd status\n  peruserd status --watch\n  peruserd status --json",
        codes=exit_codes(
            done="the instance is healthy and ready",
            not_done="it is not, or the order is not permitted",
            later=_NO_DAEMON,
        ),
    )
    add_config_option(parser)
    parser.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    add_json_option(parser, more=" (with --watch one each time)")


def add_listeners(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd listeners`."""
    parser = add_command(
        commands,
        "listeners",
        "show the listeners of this node's daemon: state, lag, users who wait, quarantine",
        "peruserd listeners",
        codes=exit_codes(
            done="each has caught up", not_done="one has not, or the order is not permitted", later=_NO_DAEMON
        ),
    )
    add_config_option(parser)
    add_json_option(parser)


def add_restart_listener(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd restart-listener`."""
    parser = add_command(
        commands,
        "restart-listener",
        "start a listener of this node's daemon again; it ends its work first and goes on at its checkpoint",
        "peruserd restart-listener 00000000-7fffffff\n  peruserd restart-listener 00000000-7fffffff --no-wait",
        codes=exit_codes(
            done="the new process reads its copy; with --no-wait, the order was given",
            not_done="there is no such listener, or the daemon refused",
            later=f"it does not read its copy yet, or {_NO_DAEMON}",
        ),
    )
    parser.add_argument("listener", metavar="LISTENER", help="its range or its copy, as in `peruserd listeners`")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the new process reads its copy")
    add_config_option(parser)
    add_json_option(parser)


def add_drain(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd drain`."""
    parser = add_command(
        commands,
        "drain",
        "let this node's daemon leave its users to the other instances, so that the node can be taken down",
        "peruserd drain && systemctl stop couchdb\n  peruserd drain --undo",
        codes=exit_codes(
            done="other instances serve its users; with --undo or --no-wait, the order was given",
            not_done="the daemon refused",
            later=f"it has not given up all users yet, or {_NO_DAEMON}",
        ),
    )
    parser.add_argument("--undo", action="store_true", help="take the users back")
    parser.add_argument(
        "--force",
        action="store_true",
        help="where no other instance can take over, note the order until one can; users are served meanwhile",
    )
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the others serve the users")
    add_config_option(parser)
    add_json_option(parser)


def add_reload(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add `peruserd reload`."""
    parser = add_command(
        commands,
        "reload",
        "let the daemon of this node read its configuration again, and say what has changed",
        "peruserd reload --config /etc/peruserd/peruserd.toml",
        codes=exit_codes(
            done="every key is in force",
            not_done="a changed key needs a restart of the daemon",
            later=_NO_DAEMON,
        ),
    )
    add_config_option(parser)
    add_json_option(parser)
