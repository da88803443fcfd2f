"""`python -m peruserd.simcluster`: the same as `peruserd simcluster`, with the same options."""

import sys

from peruserd.cli import main

if __name__ == "__main__":
    sys.exit(main(["simcluster", *sys.argv[1:]]))
