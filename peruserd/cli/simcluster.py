"""`peruserd simcluster`: only the simulated cluster, until stopped."""

import argparse

from peruserd.cli.output import CommandError
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_USAGE


def run(options: argparse.Namespace) -> int:
    """Run the cluster until SIGTERM or SIGINT."""
    try:
        from peruserd.simcluster import (  # noqa: PLC0415 - an extra, missing in a plain install
            CannotListenError,
            ClusterOptions,
            run_forever,
        )
    except ModuleNotFoundError as error:
        words = f"simcluster: {error.name} is missing; install the extra, from the sources: pip install '.[simcluster]'"
        raise CommandError(EXIT_USAGE, "missing_extra", words) from error
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
        raise CommandError(EXIT_USAGE, "usage", f"simcluster: {error}") from error
    try:
        run_forever(chosen, as_json=options.json)
    except CannotListenError as error:
        raise CommandError(EXIT_LATER, "cannot_listen", str(error)) from error
    return EXIT_DONE
