"""All imports of a listener: the fork server imports this module once, and has them for every listener.

So a listener starts in the time of a fork, and shares the memory of all code with the others. The collector is told to
leave what was imported alone: it writes into each object that it looks at, and what is written to is shared no more.

Modules that others import only when they first need them stand here by name: those for the child's end of its pipe, for
the names of hosts, and for the console script. `multiprocess` runs that script again in each child, under another name.

Nothing here may start a thread or open a descriptor, because a fork copies open descriptors and the locks of threads.
"""

import argparse  # noqa: F401
import encodings.idna  # noqa: F401
import gc
import pkgutil  # noqa: F401
import runpy  # noqa: F401

import multiprocess.popen_forkserver  # noqa: F401

import peruserd.listener.process  # noqa: F401
from peruserd import dumps

# The fork server knows no password, but its children begin as it is. They say it again, and log where it fails.
dumps.forbid()

gc.collect()
gc.freeze()
