"""The parsers of the operator's commands on the instance of this node."""

import argparse
from typing import Final

from peruserd.cli.arguments import Commands, add_command, add_config_option, add_json_option, exit_codes

_NO_DAEMON: Final = "no daemon runs here, or it does not answer"


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
