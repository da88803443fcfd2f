"""All imports of a listener: the fork server imports this module once, and every listener has them.

So a listener starts in the time of a fork, and shares the memory of all code with the others. The garbage collector
must leave the imported objects alone. It writes into each object that it examines, and a changed page is no longer
shared.

Some modules are imported here by name, because their users import them only when they first need them. They are for the
child's end of its pipe, for the names of hosts, and for the console script. `multiprocess` runs that script again in
each child, under another name.

Nothing here may start a thread or open a descriptor, because a fork copies open descriptors and the locks of threads.
"""

import argparse  # noqa: F401
import encodings.idna  # noqa: F401
import gc
import pkgutil  # noqa: F401
import runpy  # noqa: F401
import signal

import multiprocess.popen_forkserver  # noqa: F401

import peruserd.listener.process  # noqa: F401
from peruserd import dumps

# The fork server knows no password, but its children inherit this setting. Each child forbids dumps once more, and logs
# a failure.
dumps.forbid()

# `pkill -HUP` reaches every process of this name, and only the supervisor reloads the configuration. The children
# inherit this too.
signal.signal(signal.SIGHUP, signal.SIG_IGN)

gc.collect()
gc.freeze()
