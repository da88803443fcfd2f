"""`peruserd config`: print the default configuration with explanations."""

import argparse
import sys

from peruserd.cli.output import print_json
from peruserd.cli.parser import EXIT_DONE
from peruserd.core.configuration.sample import explained, sample


def run(options: argparse.Namespace) -> int:
    """Print it as a file, or with `--json` as tables of keys, each with its default and description."""
    if options.json:
        print_json(explained())
    else:
        sys.stdout.write(sample())
    return EXIT_DONE
