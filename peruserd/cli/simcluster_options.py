"""The options of `peruserd simcluster` and of `python -m peruserd.simcluster`.

They are not in `peruserd.simcluster`, because its web server is an extra, and the help must work without it.
"""

import argparse

from peruserd.cli.arguments import Commands, account, add_command, add_json_option, count, number, port, seconds


def add_simcluster(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Add the command. Each option except `--port` has the name and the default of a field of `ClusterOptions`."""
    parser = add_command(
        commands,
        "simcluster",
        "run only the simulated cluster, until stopped",
        "peruserd simcluster --nodes 3 --q 2 --port 15984 --user adm:pass",
    )
    parser.add_argument("--nodes", type=count, default=3, metavar="N", help="how many nodes")
    spare = "of these, how many run but have not joined the cluster"
    parser.add_argument("--spare", type=number, default=0, metavar="N", help=spare)
    parser.add_argument("--q", type=count, default=2, metavar="N", help="ranges of the authentication database")
    parser.add_argument("--n", type=count, default=3, metavar="N", help="copies of each range")
    ports = "port of the first node, each next one 10000 above; 0: free ones"
    parser.add_argument("--port", type=port, default=15984, metavar="PORT", help=ports)
    parser.add_argument("--user", type=account, default="adm:pass", metavar="NAME:PASSWORD", help="the admin")
    control = "also serve the controls there; 0: a free port (default: nowhere)"
    parser.add_argument("--control-port", type=port, default=None, metavar="PORT", help=control)
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="makes random choices repeatable")
    for option, field, default, help_text in (
        ("replication-delay", "replication_delay_seconds", 0.0, "how late a copy gets what it did not get at once"),
        ("split-delay", "split_delay_seconds", 0.05, "how long each node waits before each step of a split"),
        ("request-seconds", "request_seconds", 0.0, "how much longer each write through the cluster takes"),
    ):
        parser.add_argument(f"--{option}", type=seconds, default=default, metavar="SECONDS", dest=field, help=help_text)
    add_json_option(parser)
