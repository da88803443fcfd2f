"""`peruserd simcluster`: run only the simulated cluster, until stopped."""

import argparse
from typing import TYPE_CHECKING

from peruserd.cli.output import CommandError
from peruserd.cli.parser import EXIT_DONE, EXIT_LATER, EXIT_USAGE

if TYPE_CHECKING:
    from peruserd.simcluster import ClusterOptions


def run(options: argparse.Namespace) -> int:
    """Run the cluster until SIGTERM or SIGINT."""
    try:
        from peruserd.simcluster import CannotListenError, run_forever  # noqa: PLC0415 - an extra, missing in a plain install
    except ModuleNotFoundError as error:
        words = f"simcluster: {error.name} is missing; install the extra, from the sources: pip install '.[simcluster]'"
        raise CommandError(EXIT_USAGE, "missing_extra", words) from error
    try:
        chosen = cluster_options(options)
    except ValueError as error:
        raise CommandError(EXIT_USAGE, "usage", f"simcluster: {error}") from error
    try:
        run_forever(chosen, as_json=options.json)
    except CannotListenError as error:
        raise CommandError(EXIT_LATER, "cannot_listen", str(error)) from error
    return EXIT_DONE


def cluster_options(options: argparse.Namespace) -> "ClusterOptions":
    """Return the cluster for these options; ValueError where it is impossible."""
    from peruserd.simcluster import ClusterOptions  # noqa: PLC0415 - as above

    return ClusterOptions(
        nodes=options.nodes,
        spare=options.spare,
        q=options.q,
        n=options.n,
        port=options.port,
        control_port=options.control_port,
        user=options.user,
        seed=options.seed,
        replication_delay_seconds=options.replication_delay_seconds,
        split_delay_seconds=options.split_delay_seconds,
        request_seconds=options.request_seconds,
    )
