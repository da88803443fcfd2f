"""`python -m peruserd.simcluster`: the simulated cluster alone."""

import argparse
import sys

from peruserd.simcluster.runner import add_arguments, options_from, run_forever


def main() -> int:
    """Read the command line and run until stopped."""
    parser = argparse.ArgumentParser(prog="python -m peruserd.simcluster", description=__doc__)
    add_arguments(parser)
    try:
        options = options_from(parser.parse_args())
    except ValueError as error:
        parser.error(str(error))
    return run_forever(options)


if __name__ == "__main__":
    sys.exit(main())
