"""Threads that decode one type for the first time at the same time.

With `msgspec.json.decode(…, type=…)` in the place of the decoder the process of this test ends by SIGSEGV.
"""

import subprocess
import sys

from peruserd.core.cluster.leases import Lease
from peruserd.core.common.decoders import json_decoder

_SHAPES = """
from __future__ import annotations
import msgspec

class Inner(msgspec.Struct):
    a: int
    b: str = ""

class Row(msgspec.Struct):
    x: list[Inner]
    y: dict[str, Inner] = {}
"""

_RACE = f"""
import sys, threading, types
from peruserd.core.common.decoders import json_decoder

sys.setswitchinterval(1e-6)
for number in range(100):
    module = sys.modules[f"shapes{{number}}"] = types.ModuleType(f"shapes{{number}}")
    exec({_SHAPES!r}, module.__dict__)
    barrier = threading.Barrier(3)

    def decode():
        barrier.wait()
        for _ in range(3):
            assert json_decoder(module.Row).decode(b'{{"x":[{{"a":1}}]}}').x[0].a == 1

    threads = [threading.Thread(target=decode) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""


def test_threads_that_decode_a_new_type_at_once_do_not_end_the_process() -> None:
    """Each gets what it decodes; the types are new each time, as in a process that has just started."""
    ran = subprocess.run([sys.executable, "-c", _RACE], capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_type_has_one_decoder() -> None:
    """It is made once, and reads what the type says."""
    assert json_decoder(Lease) is json_decoder(Lease)
    assert json_decoder(list[int]).decode(b"[1, 2]") == [1, 2]
