"""Core dumps are forbidden. Each test needs its own process, because the setting lasts until the process ends."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_FORBID = "from peruserd import dumps; assert dumps.forbid() is None; "
_DUMPABLE = "import ctypes, os; os.write(1, b'%d ' % ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)); "


def _run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    def without_limit() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        preexec_fn=without_limit,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_that_forbids_dumps_leaves_none_and_tells_its_threads_all_the_same(tmp_path: Path) -> None:
    """After SIGABRT there is faulthandler's traceback, and no core file."""
    ended = _run(f"{_FORBID}{_DUMPABLE}import faulthandler, os; faulthandler.enable(); os.abort()", tmp_path)
    assert ended.returncode == -signal.SIGABRT
    assert ended.stdout.split() == ["0"]
    assert "most recent call first" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_fork_of_such_a_process_is_like_it(tmp_path: Path) -> None:
    """At no moment can a child be dumped."""
    ended = _run(f"{_FORBID}import os; pid = os.fork(); {_DUMPABLE}pid and os.wait()", tmp_path)
    assert ended.stdout.split() == ["0", "0"]


def test_the_fork_servers_imports_forbid_dumps(tmp_path: Path) -> None:
    """The child is a new program, so it must make the setting for itself."""
    assert _run(f"{_DUMPABLE}import peruserd.listener.preload; {_DUMPABLE}", tmp_path).stdout.split()[1] == "0"


@pytest.mark.parametrize("where", ["/proc/self/fd", "/proc/self/statm"])
def test_such_a_process_can_still_look_at_itself(tmp_path: Path, where: str) -> None:
    """The process can still read its own figures, also without privileges."""
    look = "import os; from peruserd import dumps; from peruserd.listener import usage; "
    look += f"os.geteuid() or os.setuid(65534); {_FORBID}"
    look += f"print(os.path.isdir({where!r}) and len(os.listdir({where!r})) or open({where!r}).read()); "
    ended = _run(f"{look}assert usage.measure()", tmp_path)
    assert ended.returncode == 0, ended.stderr
