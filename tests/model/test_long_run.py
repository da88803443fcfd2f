"""Each seed has one history, so a finding of a long run can be repeated."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_RUN = """
from tests.model.hostile import HostileFiveNodesMachine
from tests.model.long_run import run_seed
print(*run_seed(HostileFiveNodesMachine, 7, examples=4))
"""


def _run(hash_seed: int) -> str:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(root)}
    ended = subprocess.run(
        [sys.executable, "-c", _RUN], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return ended.stdout


def test_a_seed_is_the_same_history_in_each_process() -> None:
    """The order of iteration over sets of texts differs from run to run, and must not change the history."""
    with ThreadPoolExecutor() as pool:
        histories = set(pool.map(_run, (1, 2)))
    assert len(histories) == 1
