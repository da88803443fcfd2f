"""Every command with unwritable output: a sentence or silence, an exit code, and no traceback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli import unwritable_output
from tests.cli.arguments import ARGUMENTS, WITHOUT_SERVER
from tests.cli.running import peruserd

pytestmark = pytest.mark.processes

OUTPUTS = {
    "for reading": (1, "peruserd: the output cannot be written: Bad file descriptor"),
    "full": (75, "peruserd: the output cannot be written: No space left on device"),
    "without a reader": (1, None),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with one user, who is not served."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as running:
        running.seed_users(1, "waiting")
        yield running


@pytest.fixture(scope="module")
def configuration(cluster: SimClusterThread, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the configuration for the cluster."""
    path = tmp_path_factory.mktemp("unwritable") / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n[state]\ndirectory = "{path.parent}/state"\n')
    return str(path)


# The output is the same for all commands, so one of each kind is enough where a command takes a second.
CASES = [
    *((command, "for reading") for command in sorted(ARGUMENTS)),
    *((command, kind) for command in ("config", "run", "wait", "quarantine list") for kind in OUTPUTS),
]


@pytest.mark.parametrize(("command", "kind"), dict.fromkeys(CASES))
def test_a_command_whose_output_cannot_be_written_says_so(
    command: str, kind: str, configuration: str, tmp_path: Path
) -> None:
    """Other programs do the same: 1, or 75 where the disk is full, and silence where a pipe has no reader any more."""
    arguments = [*command.split(), *ARGUMENTS[command]]
    if command not in WITHOUT_SERVER:
        arguments += ["--config", configuration]
    said = tmp_path / "stderr"
    ended = unwritable_output.run(arguments, kind, said)
    code, sentence = OUTPUTS[kind]
    lines = said.read_text().splitlines()
    assert [line for line in lines if not line.startswith("peruserd: ")] == []
    assert ended == code
    if sentence is not None:
        assert lines[-1] == sentence
    else:
        assert "cannot be written" not in said.read_text()


@pytest.mark.parametrize(("user", "redirection"), [("full", "2> /dev/full"), ("closed", "<&- >&- 2>&-")])
def test_an_instance_whose_log_cannot_be_written_serves(
    user: str, redirection: str, cluster: SimClusterThread, configuration: str, tmp_path: Path
) -> None:
    """Lines of the log are lost then. Listeners are processes of their own, and have the same descriptors."""
    cluster.add_user(user, "x")
    state = {"PERUSERD_STATE_DIRECTORY": str(tmp_path), "PERUSERD_HTTP_LISTEN": "127.0.0.1:0"}
    command = f"exec {sys.executable} -m peruserd run --config {configuration} {redirection}"
    with subprocess.Popen(  # noqa: S602 - a shell's redirections are what is tested
        command, shell=True, env={**os.environ, **state}
    ) as running:
        waited = peruserd("wait", user, "--timeout", "60", "--config", configuration, environment=state)
        running.terminate()
        assert running.wait(60) == 0
    assert waited.returncode == 0, waited.stdout + waited.stderr
