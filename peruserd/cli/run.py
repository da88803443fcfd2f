"""`peruserd run`: the daemon."""

import argparse
import os

from peruserd import logs
from peruserd.cli.loading import complain, load_file
from peruserd.cli.parser import EXIT_CONFIGURATION
from peruserd.core.decoding import PASSWORD_VARIABLE, ConfigError
from peruserd.couch.credentials import resolve_credentials
from peruserd.daemon import instance, systemd


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    try:
        loaded = load_file(options.config)
        credentials = resolve_credentials(loaded, os.environ)
        # Children inherit the environment, and need no password there.
        os.environ.pop(PASSWORD_VARIABLE, None)
        logs.configure(loaded.config.log)
        return instance.run(loaded.config, credentials, systemd.from_environment())
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIGURATION
