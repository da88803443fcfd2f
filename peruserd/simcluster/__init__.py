"""A simulated CouchDB cluster over real sockets, for the demo, tests and benchmarks. The daemon never imports it.

Its parts from below:

- `model` is the state of the cluster, without sockets and clocks.
- `accounts` knows the users of requests.
- `events` changes the state without requests: splits, moves, damage, couch_peruser.
- `web` answers requests.
- `cluster` joins these, and `controls` are the operations on it.
- `thread`, `process` and `runner` run a cluster. `control_client` calls its controls from outside.
"""

from peruserd.simcluster.control_client import ControlClient
from peruserd.simcluster.model.copies import DEFAULT_SECURITY
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.process import SimClusterControl, SimClusterProcess
from peruserd.simcluster.runner import CannotListenError, run_forever
from peruserd.simcluster.thread import SimClusterThread
from peruserd.simcluster.web.request_log import Write

__all__ = [
    "DEFAULT_SECURITY",
    "CannotListenError",
    "ClusterOptions",
    "ControlClient",
    "SimClusterControl",
    "SimClusterProcess",
    "SimClusterThread",
    "Write",
    "run_forever",
]
