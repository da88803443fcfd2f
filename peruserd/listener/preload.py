"""What a listener needs to have imported: the fork server imports this module once, and has every listener's imports.

So a listener starts in the time of a fork, and shares the memory of all code with the others. The collector is told to
leave what was imported alone: it writes into each object that it looks at, and what is written to is shared no more.

What others import only when they first need it stands here by name: how a child's end of its pipe arrives, the names of
hosts, and what the console script needs, which `multiprocess` runs again in each child under another name.

Nothing here may start a thread or open a descriptor: a fork copies the locks that a thread holds and the descriptors
that are open.
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
