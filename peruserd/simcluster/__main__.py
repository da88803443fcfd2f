"""`python -m peruserd.simcluster`: the simulated cluster alone."""

import argparse
import sys
from typing import Final

from peruserd.simcluster.runner import CannotListenError, add_arguments, options_from, run_forever

_TRY_LATER: Final = 75  # sysexits' EX_TEMPFAIL


def main() -> int:
    """Read the command line and run until stopped."""
    parser = argparse.ArgumentParser(prog="python -m peruserd.simcluster", description=__doc__)
    add_arguments(parser)
    try:
        options = options_from(parser.parse_args())
    except ValueError as error:
        parser.error(str(error))
    try:
        run_forever(options)
    except CannotListenError as error:
        sys.stderr.write(f"{error}\n")
        return _TRY_LATER
    return 0


if __name__ == "__main__":
    sys.exit(main())
