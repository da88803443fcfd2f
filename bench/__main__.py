"""`python -m bench [NAME…]`: run benchmarks, print their tables, keep everything they measured."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench import scale
from bench.results import Options, Result

BENCHMARKS: Final[Mapping[str, Callable[[Options], Result]]] = {"scale": scale.run}


def main() -> int:
    """Read the command line and run what it names, or everything."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("dist/bench"), help="where results go (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs: to see that it works")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        result = BENCHMARKS[name](Options(quick=given.quick))
        for written in (result.write_json(given.out), result.write_chart(given.out)):
            print(f"written: {written}", file=sys.stderr)
        print(result.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
