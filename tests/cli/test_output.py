"""Commands in scripts: errors as JSON, unwritable output, odd terminals, odd names, and Ctrl-C."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peruserd.cli import output
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.cli.running import peruserd

pytestmark = pytest.mark.processes

ASKING = [
    ["check"],
    ["plan"],
    ["owner", "ann"],
    ["wait", "ann"],
    ["audit"],
    ["migrate"],
    ["templates", "status"],
    ["templates", "rollout"],
    ["deletions", "list"],
]
ORDERING = [["deletions", "pause"], ["quarantine", "list"], ["audit", "--repair"], ["name", "ann"]]
ACTIONS = [
    *(["deletions", each] for each in ("list", "cancel", "drop-now", "release", "pause", "resume")),
    *(["quarantine", each] for each in ("list", "show", "retry", "forget")),
    *(["templates", each] for each in ("status", "rollout")),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimClusterThread]:
    """Run a cluster with a user who is not served."""
    with SimClusterThread(ClusterOptions(nodes=1, q=1, n=1)) as running:
        running.seed_users(1, "waiting")
        yield running


def failed(
    *arguments: str, code: int, environment: dict[str, str] | None = None, ends_at_once: bool = False
) -> dict[str, object]:
    """Run a failing command with --json and return its object; people get lines and no traceback."""
    ran = peruserd(*arguments, "--json", environment=environment, ends_at_once=ends_at_once)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if not line.startswith(("usage: ", " "))]
    assert lines
    assert all(line.startswith("peruserd: ") for line in lines), ran.stderr
    (said,) = ran.stdout.splitlines()
    document: dict[str, object] = json.loads(said)
    assert (document["exit_code"], document["done"]) == (code, False)
    assert str(document["reason"]) in ran.stderr.replace("\nperuserd: ", "; ")
    return document


@pytest.mark.parametrize("command", ASKING, ids="-".join)
def test_a_server_that_is_away_is_an_object(command: list[str]) -> None:
    """75, the kind of the error as its name, and the address that does not answer."""
    found = failed(*command, code=75, environment={"PERUSERD_COUCHDB_URL": "http://127.0.0.1:1"})
    assert found["error"] == "unreachable"
    assert "http://127.0.0.1:1" in str(found["reason"])


@pytest.mark.parametrize("command", [*ASKING, *ORDERING], ids="-".join)
def test_a_configuration_that_cannot_be_read_is_an_object(command: list[str], tmp_path: Path) -> None:
    """78, and the file is named; a directory and bytes that are no text cannot be read either."""
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for file in (tmp_path / "none.toml", tmp_path, tmp_path / "bytes.toml"):
        found = failed(*command, "--config", str(file), code=78)
        assert found["error"] == "configuration"
        assert str(file) in str(found["reason"])


@pytest.mark.parametrize("command", ASKING, ids="-".join)
def test_a_password_file_that_cannot_be_read_is_an_object(command: list[str], tmp_path: Path) -> None:
    """75, because the file can still be brought; the key and the file are named."""
    settings = {"PERUSERD_COUCHDB_USERNAME": "adm", "PERUSERD_COUCHDB_PASSWORD_FILE": str(tmp_path / "none")}
    found = failed(*command, code=75, environment=settings)
    assert found["error"] == "unavailable"
    assert "couchdb.password_file" in str(found["reason"])


@pytest.mark.parametrize("command", [["fly"], ["check", "x"], ["wait"], ["quarantine", "retry"], ["demo", "--q", "0"]])
def test_wrong_usage_is_an_object(command: list[str]) -> None:
    """The code is 2 for mistakes found by argparse, and for mistakes found by the command."""
    assert failed(*command, code=2, ends_at_once=True)["error"] == "usage"


def test_a_port_that_is_taken_is_an_object(cluster: SimClusterThread) -> None:
    """75, as the port can be free later; nothing is printed that looks like a cluster."""
    port = cluster.urls[0].rpartition(":")[2]
    found = failed("simcluster", "--nodes", "1", "--port", port, code=75)
    assert found["error"] == "cannot_listen"


def test_an_authentication_database_that_is_not_there_is_said(config: str) -> None:
    """1, as a mistaken name is not done by trying again, and the database is named."""
    elsewhere = {"PERUSERD_COUCHDB_AUTH_DB": "elsewhere"}
    for command in (
        ["check"],
        ["plan"],
        ["owner", "ann"],
        ["audit"],
        ["wait", "ann", "--timeout", "0"],
        ["templates", "status"],
    ):
        ran = peruserd(*command, "--config", config, environment=elsewhere)
        assert ran.returncode == 1, command
        assert "Traceback" not in ran.stderr
        assert "the authentication database" in (said := ran.stdout + ran.stderr), command
        assert "does not exist" in said, command


@pytest.mark.parametrize("command", [["owner", "--no-wait"], ["wait", "--timeout", "0"], ["name"]], ids="-".join)
def test_names_with_odd_bytes_are_printed(config: str, command: list[str]) -> None:
    """Bytes that are not UTF-8, escapes and line breaks neither end a command nor control a terminal."""
    odd = ["\udcff", "a\x1b[31m", "two\nlines", "\u202eright"]
    for arguments in (odd, [*odd, "--json"]):
        ran = peruserd(*command, *arguments, "--config", config)
        assert ran.returncode == 1
        assert "Traceback" not in ran.stderr
        said = ran.stdout + ran.stderr
        assert not {"\x1b", "\u202e"} & set(said if "--json" not in arguments else ran.stderr)
        if "--json" in arguments:
            json.loads(ran.stdout)


@pytest.mark.parametrize("action", ACTIONS, ids="-".join)
def test_every_action_explains_itself(action: list[str]) -> None:
    """`--help` shows an example and the exit codes, and says what happens without an option."""
    helped = peruserd(*action, "--help", environment={"COLUMNS": "40"})
    assert helped.returncode == 0
    assert f"peruserd {' '.join(action)}" in helped.stdout.partition("Example:")[2]
    assert "78 configuration" in " ".join(helped.stdout.split())
    assert max(len(line) for line in helped.stdout.splitlines() if not line.startswith("  peruserd")) <= 80


def test_defaults_are_said() -> None:
    """Each option that has one names it."""
    helped = {
        each: " ".join(peruserd(each, "--help", ends_at_once=True).stdout.split())
        for each in ("wait", "audit", "simcluster")
    }
    assert "0: look once (default: 60.0)" in helped["wait"]
    assert "requests under way at once (default: 8)" in helped["audit"]
    assert "(default: 15984)" in helped["simcluster"]


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&- >&- <&-", 0, ""),
        ("> /dev/full", 75, "peruserd: the output cannot be written: No space left on device\n"),
        ("1< /dev/null", 1, "peruserd: the output cannot be written: Bad file descriptor\n"),
        ("1< /dev/null 2< /dev/null", 1, ""),
        ("--help > /dev/full", 75, "peruserd: the output cannot be written: No space left on device\n"),
        ("--prefix - --json > /dev/full", 2, None),
        ("| true", 0, ""),
        ("2> /dev/full", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_no_traceback(redirection: str, code: int, said: str | None) -> None:
    """The cases are a closed descriptor, a full disk and a gone reader; the code of an earlier failure stays."""
    ran = subprocess.run(  # noqa: S602 - a shell's redirections are what is tested
        f"{sys.executable} -m peruserd name ann {redirection}", shell=True, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (code, False)
    assert said is None or ran.stderr == said


def hurried(module: str, name: str) -> list[str]:
    """Return the command for a new interpreter that runs peruserd with half a second for one of its times."""
    lines = ["import runpy", f"import {module} as there", f"there.{name} = 0.5"]
    return [sys.executable, "-c", "; ".join([*lines, "runpy.run_module('peruserd', run_name='__main__')"])]


def test_words_that_nobody_can_read_keep_no_command_from_its_answer(config: str) -> None:
    """Standard error is a file on a full disk: the answer is printed all the same, also an error as JSON."""
    program = shlex.join(hurried("peruserd.cli.survey", "_AGAIN_SECONDS"))
    cases = {
        f"audit --config {config}": (1, "1 differ"),
        f"audit --json --config {config}": (1, '"differing":1'),
        "fly --json": (2, '"error":"usage"'),
        "check --json --config none.toml": (78, '"error":"configuration"'),
    }

    def run(command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S602 - a shell's redirection is what is tested
            f"{program} {command} 2> /dev/full", shell=True, stdout=subprocess.PIPE, check=False
        )

    with ThreadPoolExecutor(len(cases)) as pool:
        for ran, (command, (code, said)) in zip(pool.map(run, cases), cases.items(), strict=True):
            assert ran.returncode == code, command
            assert said in ran.stdout.decode(), command


@pytest.mark.parametrize(
    "command", [["audit"], ["migrate"], ["migrate", "--check"], ["templates", "status"]], ids="-".join
)
def test_a_command_that_looks_at_everybody_says_so_in_a_pipe(config: str, command: list[str]) -> None:
    """It can take an hour, and nobody sees a bar there."""
    ran = peruserd(*command, "--json", "--config", config)
    assert ran.stderr.startswith("peruserd: looking at ")


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_a_command_at_once(config: str, as_json: bool) -> None:  # noqa: FBT001
    """The code is 130, as in shells, with a line or an object; requests of other threads are ended as well."""
    command = [*hurried("peruserd.cli.wait", "_QUIET_SECONDS"), "wait", "waiting000000", "--config", config]
    command += ["--timeout", "3600", *["--json"] * as_json]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        # The command says what it waits for after some looks.
        assert running.stderr.readline() == "peruserd: waiting for 1 user, up to 3600 s\n"
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)
    document = '{"error":"interrupted","reason":"interrupted","exit_code":130,"done":false}\n' if as_json else ""
    assert (running.returncode, *said) == (130, document, "peruserd: interrupted\n")


def test_one_document_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that is interrupted after its answer adds none."""
    output.prepare()
    output.print_json({"done": True})
    assert output.fail(output.CommandError(130, "interrupted", "interrupted"), as_json=True) == 130
    assert capsys.readouterr().out == '{"done":true}\n'
