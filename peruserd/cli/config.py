"""`peruserd config`: the default configuration, explained."""

import argparse
import sys

from peruserd.cli.parser import EXIT_DONE
from peruserd.core.sample import sample


def run(_options: argparse.Namespace) -> int:
    """Print it."""
    sys.stdout.write(sample())
    sys.stdout.flush()
    return EXIT_DONE
