"""`peruserd run`: the daemon."""

import argparse

from peruserd import logs
from peruserd.cli.loading import complain, credentials_for, load_file
from peruserd.cli.parser import EXIT_CONFIGURATION
from peruserd.core.decoding import ConfigError
from peruserd.daemon import instance, systemd


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    try:
        loaded = load_file(options.config)
        source = credentials_for(loaded)
        logs.configure(loaded.config.log)
        return instance.run(loaded.config, source, systemd.from_environment())
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
