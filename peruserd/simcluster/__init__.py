"""A simulated CouchDB cluster over real sockets, for the demo, tests and benchmarks; the daemon never imports it."""

from peruserd.simcluster.controls import ControlFace
from peruserd.simcluster.copies import DEFAULT_SECURITY
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.process import SimClusterControl, SimClusterProcess
from peruserd.simcluster.runner import CannotListenError, add_arguments, options_from, run_forever
from peruserd.simcluster.tally import Write
from peruserd.simcluster.thread import SimClusterThread

__all__ = [
    "DEFAULT_SECURITY",
    "CannotListenError",
    "ClusterOptions",
    "ControlFace",
    "SimClusterControl",
    "SimClusterProcess",
    "SimClusterThread",
    "Write",
    "add_arguments",
    "options_from",
    "run_forever",
]
