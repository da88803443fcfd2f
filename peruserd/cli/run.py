"""`peruserd run`: the daemon."""

import argparse

from peruserd import logs
from peruserd.cli.loading import credentials_for, load_file
from peruserd.daemon import instance, systemd


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; raises ConfigError."""
    loaded = load_file(options.config)
    source = credentials_for(loaded)
    logs.configure(loaded.config.log)
    return instance.run(loaded.config, source, systemd.from_environment())
