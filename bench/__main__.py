"""`python -m bench [NAME…]`: run benchmarks, print their tables, and keep everything that they measured.

`python -m bench report DIR…` compares what was kept.
"""

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench import crowd, filling, idle, latency, membership, pipeline, provision, report, restart, scale
from bench.benchmark import Benchmark, Options, run
from bench.harness.cluster import Cluster, ClusterError
from peruserd.demo.instances import InstanceFailedError

BENCHMARKS: Final[Mapping[str, Benchmark[Any, Any]]] = {
    "provision": provision,
    "latency": latency,
    "membership": membership,
    "restart": restart,
    "idle": idle,
    "pipeline": pipeline,
    "scale": scale,
    "filling": filling,
    "crowd": crowd,
}

_OUT: Final = Path("dist/bench")


def main(arguments: list[str]) -> int:
    """Do what the command line says; return the exit code."""
    if arguments[:1] == ["report"]:
        return report.main(arguments[1:])
    given = _parse(arguments)
    options = Options(quick=given.quick, cluster=tuple(given.cluster), beside=given.beside, users=given.users)
    try:
        if options.cluster and not given.yes:
            _refuse_if_in_use(options.cluster)
        for name in given.names or BENCHMARKS:
            result = run(name, BENCHMARKS[name], options)
            for written in (result.write_json(given.out), result.write_chart(given.out)):
                print(f"written: {written}", file=sys.stderr)
            print(f"{result.heading()}\n\n{result.text()}\n", flush=True)
    except (ClusterError, InstanceFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything that it had made is removed", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument(
        "--cluster",
        type=lambda text: [url for url in text.split(",") if url],
        default=[],
        metavar="URL[,URL…]",
        help="the nodes of a test cluster, each with an admin's name and password (default: a simulated cluster)",
    )
    parser.add_argument("--yes", action="store_true", help="write to the cluster even if it is not empty")
    parser.add_argument("--out", type=Path, default=_OUT, help="where results go (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs, which only show that it works")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="crowd: another checkout of peruserd, such as one of an earlier commit, to be measured in turns",
    )
    parser.add_argument("--users", type=int, metavar="N", help="crowd: the number of users who sign up at once")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return given


def _refuse_if_in_use(urls: tuple[str, ...]) -> None:
    """Raise ClusterError where others' users are on the cluster: a run loads it for minutes, and serves all of them."""
    cluster = Cluster(urls)
    users, databases = cluster.users(), cluster.user_databases()
    # The server's own design document is always there.
    if users > 1 or databases:
        raise ClusterError(
            f"{urls[0].rpartition('@')[2]} is in use: {users} documents in _users"
            + (f", user databases such as {databases[0]}" if databases else "")
            + ". Benchmarks load the cluster for minutes, start peruserd beside each node (it then serves all users), "
            "and switch couch_peruser on and off. Take a test cluster, or say --yes"
        )


if __name__ == "__main__":
    # An end by `kill` or a time limit is in order too, or else the instances would run on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
