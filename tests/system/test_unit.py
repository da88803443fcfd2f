"""The unit file `peruserd.service`: it has everything that the daemon needs, and systemd understands all of it."""

import contextlib
import os
import secrets
import shlex
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from peruserd import ending
from peruserd.cli.parser import build_parser
from peruserd.core.configuration.decoding import PASSWORD_CREDENTIAL
from peruserd.core.configuration.problems import EXIT_CONFIGURATION
from peruserd.daemon.state import DEFAULT_STATE_DIRECTORY
from peruserd.supervisor.loop import MAX_WAIT_SECONDS
from tests.system.daemon import Daemon
from tests.waiting import eventually

UNIT = Path(__file__).parents[2] / "peruserd.service"

# On systemd's own scale 0 is safe and 10 is exposed. Above 2 something is open without need.
MAX_EXPOSED = 2.0


def settings() -> dict[str, list[str]]:
    """Return the values of each setting of the unit, as `Section.Key`; a key may be given more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            assert separator, line
            found[f"{section}.{key}"].append(value)
    return found


def only(key: str) -> str:
    """Return the value of a setting that is given once."""
    (value,) = settings()[key]
    return value


def test_the_command_is_one_that_peruserd_has() -> None:
    """ExecStart runs the daemon, with a configuration file by its full path."""
    program, *arguments = shlex.split(only("Service.ExecStart"))
    options = build_parser().parse_args(arguments)
    assert Path(program).is_absolute()
    assert options.command == "run"
    assert Path(options.config).is_absolute()


def test_the_supervisor_alone_is_told_to_stop_and_has_the_time() -> None:
    """Its listeners get no SIGTERM from systemd, and the time-out is longer than all of the supervisor's own."""
    assert only("Service.KillMode") == "mixed"
    # A busy machine may be late with it.
    assert float(only("Service.TimeoutStopSec")) >= ending.LAST_RESORT_SECONDS + 3.0


def test_a_crash_is_followed_by_a_start_and_a_useless_configuration_is_not() -> None:
    """Exit codes are the protocol between the daemon and systemd, and tries never run out."""
    assert only("Service.Restart") == "on-failure"
    assert only("Service.RestartPreventExitStatus").split() == [str(EXIT_CONFIGURATION)]
    assert only("Unit.StartLimitIntervalSec") == "0"


def test_a_listener_out_of_memory_does_not_end_the_others() -> None:
    """By default systemd would stop the whole service when the kernel ends one of its processes."""
    assert only("Service.OOMPolicy") == "continue"


def test_a_daemon_that_hangs_is_ended() -> None:
    """The watchdog waits longer than the supervisor's loop takes for three rounds, and shorter than anybody would."""
    assert 3 * MAX_WAIT_SECONDS < float(only("Service.WatchdogSec")) <= 120.0


def test_no_core_file_is_written() -> None:
    """A dump would hold the admin's session, and the supervisor's the password too."""
    assert only("Service.LimitCORE") == "0"


def test_state_and_password_are_where_the_daemon_looks_for_them() -> None:
    """The state directory and the credential bear the names that the daemon knows."""
    assert Path("/var/lib", only("Service.StateDirectory")) == Path(DEFAULT_STATE_DIRECTORY)
    assert only("Service.LoadCredential").startswith(f"{PASSWORD_CREDENTIAL}:/")


def test_the_metrics_of_processes_can_be_read() -> None:
    """`ProcSubset=pid` would make them silently empty."""
    assert "Service.ProcSubset" not in settings()


@pytest.mark.anew
def test_notify_is_what_the_daemon_does(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """In the environment of this unit the daemon notifies systemd of its start, its status and its stop."""
    assert only("Service.Type") == "notify"
    assert only("Service.NotifyAccess") == "main"
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir()
    (credentials / PASSWORD_CREDENTIAL).write_text("pass\n", encoding="utf-8")
    name = f"peruserd-test-{secrets.token_hex(8)}"
    # Nobody listens on a port that is bound only, so CouchDB is away; the daemon starts all the same.
    with socket.socket() as nobody, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        nobody.bind(("127.0.0.1", 0))
        notified.bind(f"\0{name}")
        notified.setblocking(False)  # noqa: FBT003 - its only parameter
        said: list[str] = []

        def has_said(line: str) -> bool:
            with contextlib.suppress(BlockingIOError):
                said.extend(notified.recv(4096).decode().splitlines())
            return line in said

        daemon = make_daemon(
            url=f"http://127.0.0.1:{nobody.getsockname()[1]}",
            config={"couchdb": {"username": "adm"}, "state": {"directory": None}},
            environment={
                "NOTIFY_SOCKET": f"@{name}",
                "CREDENTIALS_DIRECTORY": str(credentials),
                "STATE_DIRECTORY": str(state),
            },
        )
        daemon.start()
        eventually(lambda: has_said("READY=1"), "READY=1")
        started = daemon.line("started")
        assert started is not None
        assert started["state"] == str(state)
        assert daemon.stop() == 0
        eventually(lambda: has_said("STOPPING=1"), "STOPPING=1")


@pytest.fixture
def analyze(need_tool: Callable[[str], str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run systemd-analyze on the unit, with a program that exists in the place of its own."""
    tool = need_tool("systemd-analyze")
    unit = tmp_path / UNIT.name
    program = shlex.split(only("Service.ExecStart"))[0]
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(f"={program} ", f"={sys.executable} "), encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [tool, *arguments, str(unit)]
        environment = os.environ | {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    return run


def test_systemd_understands_the_unit(analyze: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """No setting is unknown or wrong; systemd would only warn, and ignore it."""
    outcome = analyze("verify")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")


def test_the_service_is_closed_in(analyze: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """By systemd's own score the service is little exposed."""
    outcome = analyze("security", "--offline=yes", f"--threshold={MAX_EXPOSED * 10:.0f}", "--no-pager")
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr
