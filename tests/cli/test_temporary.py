"""Commands where no temporary file can be written, as on a full disk or in a container whose root is read-only."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

# Nowhere can a file be written, not even by root.
_SOMEWHERE_ELSE = """
import sys, tempfile
tempfile._candidate_tempdir_list = lambda: ["/proc/nowhere"]
from peruserd.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that finds no place for temporary files."""
    command = [sys.executable, "-c", _SOMEWHERE_ELSE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("arguments", [["run"], ["plan", "--json"]])
def test_it_is_said_in_one_line_and_tried_again_later(arguments: list[str]) -> None:
    """Room can be made, so a service manager tries again."""
    ran = run(*arguments)
    assert ran.returncode == 75
    assert ran.stderr.startswith("peruserd: No usable temporary directory found in ['/proc/nowhere']; is the disk full")
    assert len(ran.stderr.splitlines()) == 1
    assert not ran.stdout or json.loads(ran.stdout)["error"] == "no_temporary_directory"


def test_a_command_that_needs_none_does_its_work() -> None:
    """Files for an installation can be printed all the same."""
    assert run("name", "bob").stdout == "userdb-626f62\n"
