"""The unit file `peruserd.service`: it has everything that the daemon needs, and systemd understands all of it."""

import os
import re
import shlex
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
from peruserd.daemon.heartbeat import START_SECONDS
from peruserd.daemon.state import DEFAULT_STATE_DIRECTORY
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.loop import MAX_WAIT_SECONDS
from tests.system.daemon import Daemon
from tests.system.notified import Systemd
from tests.waiting import eventually

UNIT = Path(__file__).parents[2] / "peruserd.service"

# On systemd's own scale 0 is safe and 10 is exposed. Above this something is open without need.
MAX_EXPOSED = 1.2


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


def test_a_start_has_time_for_its_first_words() -> None:
    """Later words extend the time. The daemon itself ends the wait of those who started it."""
    assert float(only("Service.TimeoutStartSec")) >= 60.0
    assert START_SECONDS <= 1_800.0


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
def test_notify_is_what_the_daemon_does(
    make_daemon: Callable[..., Daemon], cluster: SimClusterThread, systemd: Systemd, tmp_path: Path
) -> None:
    """In the environment of this unit the daemon notifies systemd of its start, its state, a reload and its stop.

    The start is over once the listeners have caught up. While CouchDB is away, systemd is asked for more time.
    """
    assert only("Service.Type") == "notify"
    assert only("Service.NotifyAccess") == "main"
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir()
    (credentials / PASSWORD_CREDENTIAL).write_text("pass\n", encoding="utf-8")
    cluster.seed_users(20)
    cluster.stop_node(1)
    daemon = make_daemon(
        url=re.sub("//.*@", "//", cluster.urls[0]),
        config={"couchdb": {"username": "adm"}, "state": {"directory": None}},
        environment={
            "NOTIFY_SOCKET": systemd.address,
            "WATCHDOG_USEC": str(round(float(only("Service.WatchdogSec")) * 1_000_000)),
            "CREDENTIALS_DIRECTORY": str(credentials),
            "STATE_DIRECTORY": str(state),
        },
    )
    daemon.start()
    started = daemon.line("started")
    assert started is not None
    assert started["state"] == str(state)

    def says(beginning: str) -> bool:
        return any(each.startswith(beginning) for each in systemd.listen())

    eventually(lambda: says("STATUS=not ready: waiting for CouchDB: "), "it says what it waits for")
    eventually(lambda: says("EXTEND_TIMEOUT_USEC=60000000"), "it asks for more time")
    assert "READY=1" not in systemd.said
    cluster.start_node(1)
    eventually(lambda: says("READY=1"), "the start is over")
    assert daemon.is_ready
    eventually(lambda: says("STATUS=listening to 2 of 2 ranges"), "it says what it serves")
    eventually(lambda: says("WATCHDOG=1"), "it is alive")
    daemon.hang_up()
    eventually(lambda: says("MONOTONIC_USEC="), "it reloads")
    eventually(lambda: systemd.listen().count("READY=1") == 2, "the reload is over")
    assert systemd.said.index("RELOADING=1") < len(systemd.said) - 1 - systemd.said[::-1].index("READY=1")
    assert daemon.stop() == 0
    eventually(lambda: says("STOPPING=1"), "it stops")
    assert "STATUS=stopping on SIGTERM" in systemd.said
    assert systemd.said.count("STOPPING=1") == 1


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
