"""The script that runs the tests on several Pythons, with stand-ins for the Pythons, `make` and uv."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "test-pythons"

# The real one asks such a Python for its version by a program.
PYTHON = """#!/bin/sh
case "$1" in
--version) echo "Python {version}.7" ;;
-c) [ "$3" = "{version}" ] ;;
esac
"""
UV = '#!/bin/sh\necho "uv $* (bin: $UV_PYTHON_INSTALL_BIN)" >&2\nexit 1\n'
# The tests fail on 3.97.
MAKE = '#!/bin/sh\necho "$@"\ncase "$*" in *VENV=.venv-3.97*) exit 2 ;; esac\n'

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script where the machine has Python 3.97 and 3.98, and uv cannot install any."""
    programs = {"python3.97": PYTHON.format(version="3.97"), "python3.98": PYTHON.format(version="3.98")}
    # pyenv puts such shims there. They end so where their version is not chosen.
    programs |= {"python3.99": "#!/bin/sh\nexit 127\n", "make": MAKE, "uv": UV}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(*versions: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/usr/bin/env", "bash", str(SCRIPT), *versions],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_each_python_has_an_environment_of_its_own(run: Run, tmp_path: Path) -> None:
    """The tests are run by `make`, which is told the environment and the Python."""
    done = run("3.98")
    assert done.returncode == 0
    assert f"test-fast VENV=.venv-3.98 PYTHON={tmp_path}/python3.98" in done.stdout
    assert done.stdout.splitlines()[-1] == "Python 3.98.7: passed"


def test_a_python_that_cannot_be_had_is_named_and_skipped(run: Run) -> None:
    """Something of that name that does not run is none."""
    done = run("3.99", "3.98")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [
        "Python 3.99: skipped, because this machine has none and uv could not install one",
        "Python 3.98.7: passed",
    ]


def test_a_python_on_which_tests_fail_is_a_failure_and_the_others_are_tried(run: Run) -> None:
    """The end names all Pythons."""
    done = run("3.97", "3.98")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["Python 3.97.7: FAILED", "Python 3.98.7: passed"]


def test_a_run_without_any_python_is_a_failure(run: Run) -> None:
    """Nothing was tested then."""
    done = run("3.99")
    assert done.returncode == 1
    assert "no Python was tried" in done.stderr


def test_a_python_of_uvs_stays_out_of_the_path(run: Run) -> None:
    """By default uv would also put a `python3.99` into the developer's own `~/.local/bin`."""
    assert "uv python install --quiet 3.99 (bin: 0)" in run("3.99").stderr


def test_it_has_to_be_told_a_version(run: Run) -> None:
    """Without one it says how it is called."""
    assert run().returncode == 2


def test_a_dry_run_of_the_target_only_shows_the_command() -> None:
    """Without versions the script itself would end with 2."""
    done = subprocess.run(
        ["/usr/bin/env", "make", "--dry-run", "test-pythons", "PYTHONS="],
        cwd=SCRIPT.parents[1],
        # The make that runs the tests would hand its options on, and each line would name its directory.
        env={name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[-1] == ".ci/test-pythons"
