"""`python -m peruserd` is `peruserd`."""

import sys

from peruserd.cli import main

if __name__ == "__main__":
    sys.exit(main())
