"""`peruserd simcluster`: only the simulated cluster, until stopped."""

import argparse
import sys

from peruserd.cli.parser import EXIT_USAGE


def run(options: argparse.Namespace) -> int:
    """Run the cluster until SIGTERM or SIGINT."""
    try:
        from peruserd.simcluster import ClusterOptions, run_forever  # noqa: PLC0415 - an extra, missing in a plain install
    except ModuleNotFoundError as error:
        print(
            f"peruserd simcluster: {error.name} is missing; install the extra, from the sources: "
            "pip install '.[simcluster]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
    try:
        chosen = ClusterOptions(
            nodes=options.nodes,
            q=options.q,
            n=options.n,
            port=options.port,
            user=options.user,
            control_port=options.control_port,
        )
    except ValueError as error:
        print(f"peruserd simcluster: {error}", file=sys.stderr)
        return EXIT_USAGE
    return run_forever(chosen)
