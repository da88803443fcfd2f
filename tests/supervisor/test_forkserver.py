"""The fork server: its children, its end, and its failures."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import multiprocess
import psutil
import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.views import Plan
from peruserd.core.processes.lifecycle import Reason
from peruserd.core.processes.messages import Hello, JournalNews, Stop, encode
from peruserd.supervisor import forkserver
from peruserd.supervisor import process as process_module
from peruserd.supervisor.process import ListenerProcess
from tests.supervisor import children
from tests.supervisor.fleet_harness import FleetHarness
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_each

pytestmark = pytest.mark.processes

# Only a fork server that is stopped gets so little time. It never answers, however long one waits.
SHORT_SECONDS = 0.3


def is_gone(pid: int) -> bool:
    """Say whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(*pids: int) -> None:
    """Wait for the end of processes."""
    eventually_each(pids, is_gone, "it is gone")


def pipes_and_sockets(pid: int | str = "self") -> list[str]:
    """Return the open descriptors of a process, without standard input, output and error."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # A descriptor may be closed meanwhile, such as the one through which the directory is read.
        with contextlib.suppress(FileNotFoundError):
            link = str(entry.readlink())
            if int(entry.name) > 2 and link.startswith(("pipe:", "socket:")):
                found.append(link)
    return sorted(found)


def until_greeted(process: ListenerProcess) -> None:
    """Wait until a listener says hello."""
    assert select.select([process.pipe_fd], [], [], PATIENCE_SECONDS)[0], "the listener said nothing"
    assert process.receive()[:1] == [Hello()]


def end(process: ListenerProcess) -> int:
    """Kill a listener and return its exit code."""
    process.signal(signal.SIGKILL)
    assert select.select([process.pidfd], [], [], PATIENCE_SECONDS)[0], "the listener did not end"
    return process.reap()


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """The settings of `multiprocess` for this process; the test leaves them as they were."""
    known: dict[str, str | None] = multiprocess.current_process()._config
    monkeypatch.setitem(known, "tempdir", known.get("tempdir"))
    return known


@pytest.fixture
def standing_server() -> int:
    """Give the process id of a fork server that is left alone by the test, so that other tests can go on with it."""
    look_around()
    pid = forkserver._pid()
    assert pid is not None
    return pid


@pytest.fixture
def server(config: dict[str, str | None], tmp_path: Path) -> Iterator[int]:
    """Start a fork server with its imports done; give its process id. At the end undo the changes of the test.

    One that other tests have left standing has its address elsewhere, so it is ended first.
    """
    assert config
    kill_fork_server()
    forkserver.begin(tmp_path)
    look_around()
    pid = forkserver._pid()
    assert pid is not None
    yield pid
    kill_fork_server()
    wait_until_gone(pid)


def kill_fork_server() -> None:
    """End the fork server, if there is one."""
    pid = forkserver._pid()
    if pid is not None:
        forkserver._kill()
        wait_until_gone(pid)


def look_around() -> tuple[set[str], int, float]:
    """Return the result of `look_around` in a child."""
    pipe, theirs = forkserver.CONTEXT.Pipe()
    with pipe, theirs:
        process = forkserver.CONTEXT.Process(target=children.look_around, args=(theirs,), daemon=True)
        forkserver.start(process)
        assert pipe.poll(PATIENCE_SECONDS)
        seen: tuple[set[str], int, float] = pipe.recv()
        assert forkserver.join(process) == 0
        process.close()
    return seen


# The state of a child


@pytest.mark.skipif("coverage" in sys.modules, reason="coverage imports modules of its own into each process")
def test_a_listeners_imports_are_there_when_it_starts(server: int, harness: FleetHarness) -> None:
    """A listener imports nothing from its start to its end, and the collector leaves imported objects alone."""
    code = "import multiprocess.forkserver, peruserd.listener.preload, sys; print(*sys.modules)"
    preloaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    modules, frozen, _ = look_around()
    extra = {name for name in modules - preloaded if not name.startswith("tests")}
    assert not extra
    assert frozen > 10_000
    assert psutil.Process(server).num_threads() == 1, "a fork would copy the locks of other threads"
    harness.cluster.seed_users(3)
    control, theirs = forkserver.CONTEXT.Pipe()
    heard, told = forkserver.CONTEXT.Pipe()
    with control, theirs, heard, told:
        process = forkserver.CONTEXT.Process(
            target=children.listen, args=(encode(harness.start_message()), theirs, told), daemon=True
        )
        forkserver.start(process)
        assert control.poll(PATIENCE_SECONDS)
        eventually(harness.cluster.creations, "a user is served")
        control.send_bytes(encode(Stop(5.0)))
        assert heard.poll(PATIENCE_SECONDS)
        assert heard.recv() == set()
        assert forkserver.join(process) == 0
        process.close()


def test_each_child_draws_other_random_numbers(standing_server: int) -> None:
    """Forked processes must have different random numbers, because otherwise their back-offs would be the same."""
    assert standing_server == forkserver._pid()
    assert len({look_around()[2] for _ in range(5)}) == 5


def test_a_terminals_interrupt_does_not_end_it(standing_server: int) -> None:
    """^C reaches every process of the terminal, but the supervisor decides when listeners end."""
    os.kill(standing_server, signal.SIGINT)
    look_around()
    assert forkserver._pid() == standing_server


def test_a_listener_has_no_descriptor_of_others(standing_server: int, harness: FleetHarness) -> None:
    """A listener has no descriptor of other processes, apart from the pipes that show their end."""
    assert standing_server == forkserver._pid()
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)  # noqa: FBT003 - its only other parameter
    first, second = (ListenerProcess(harness.start_message(index)) for index in range(2))
    for process in (first, second):
        until_greeted(process)

    theirs = [set(pipes_and_sockets(process.pid)) for process in (first, second)]
    common = theirs[0] & theirs[1]
    assert len(common) == 2, "by which the fork server and the resource tracker see the end of all"
    for each in theirs:
        assert len((each & set(pipes_and_sockets())) - common) == 1, "by which it sees the supervisor's end"
    for process in (first, second):
        assert end(process) == -signal.SIGKILL
    os.close(read_end)
    os.close(write_end)


_UNPREPARED = """
import sys, time
from peruserd.core.processes.messages import decode_start
from peruserd.supervisor import forkserver
from peruserd.supervisor.process import ListenerProcess
if __name__ == "__main__":
    forkserver.CONTEXT.set_forkserver_preload(sys.argv[1:])
    process = ListenerProcess(decode_start(bytes.fromhex(sys.stdin.readline())))
    while not process.receive():
        time.sleep(0.01)
"""


@pytest.mark.parametrize(("module", "warnings"), [("peruserd.listener.preload", 0), ("peruserd.no_such_module", 1)])
def test_imports_that_failed_are_told(harness: FleetHarness, tmp_path: Path, module: str, warnings: int) -> None:
    """`multiprocess` ignores a failed import silently. The listener works all the same, and logs the failure."""
    script = tmp_path / "supervisor.py"
    script.write_text(_UNPREPARED)
    done = subprocess.run(
        [sys.executable, str(script), module],
        input=encode(harness.start_message()).hex() + "\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert done.stderr.count("could not import the listener's code") == warnings, done.stderr


# Its end and the supervisor's


_SUPERVISOR = """
import sys, time
from peruserd.core.processes.messages import decode_start
from peruserd.supervisor.process import ListenerProcess
if __name__ == "__main__":
    process = ListenerProcess(decode_start(bytes.fromhex(sys.stdin.readline())))
    while not process.receive():
        time.sleep(0.01)
    print(process.pid, flush=True)
    if sys.stdin.readline() == "fail\\n":
        raise RuntimeError("something nobody foresaw")
"""


class OtherSupervisor:
    """A process with its own listener, fork server and resource tracker.

    A killed supervisor leaves the directory of its fork server's address behind, so that directory is below
    `temporary`.
    """

    def __init__(self, harness: FleetHarness, directory: Path, temporary: str) -> None:
        script = directory / "supervisor.py"
        script.write_text(_SUPERVISOR)
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            env=os.environ | {"TMPDIR": temporary},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.tell(encode(harness.start_message()).hex())
        assert self.process.stdout is not None
        self.listener = int(self.process.stdout.readline())
        self.server = psutil.Process(self.listener).ppid()
        self.helpers = [each.pid for each in psutil.Process(self.process.pid).children()]
        assert self.server in self.helpers

    def tell(self, line: str) -> None:
        """Tell it what to do next."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@pytest.fixture
def other(harness: FleetHarness, tmp_path: Path) -> Iterator[OtherSupervisor]:
    """Another supervisor, which a test ends."""
    # Not below the test's own directory: the path of a socket must be short.
    with tempfile.TemporaryDirectory() as temporary:
        yield OtherSupervisor(harness, tmp_path, temporary)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "fail", "return"])
def test_neither_listeners_nor_the_fork_server_outlive_the_supervisor(other: OtherSupervisor, how: str) -> None:
    """A listener notices the end of its parent, and the fork server the end of all other processes."""
    with other.process as process:
        if how.startswith("SIG"):
            process.send_signal(signal.Signals[how])
        else:
            other.tell(how)
        wait_until_gone(other.listener, *other.helpers)


def test_a_listener_does_not_outlive_its_supervisor_beside_a_fork_server_that_hangs(other: OtherSupervisor) -> None:
    """The listener notices that the supervisor's end of a pipe is closed; no other process holds that end."""
    with other.process as process:
        os.kill(other.server, signal.SIGSTOP)
        try:
            process.kill()
            wait_until_gone(other.listener)
        finally:
            os.kill(other.server, signal.SIGCONT)
    wait_until_gone(*other.helpers)


def test_a_fork_server_that_is_killed_takes_nobody_with_it(server: int, harness: FleetHarness) -> None:
    """The listeners go on, their ends are noticed, new ones get another fork server, and no counter falls."""
    harness.cluster.seed_users(10)
    harness.fleet.adjust(harness.plan(), harness.now())
    harness.turn_until(lambda: harness.all_caught_up() and harness.created() == 10, "all users to be served")
    listeners = harness.pids()
    os.kill(server, signal.SIGKILL)
    wait_until_gone(server)
    harness.cluster.seed_users(10, "later")
    harness.turn_until(lambda: harness.created() == 20, "those who came later to be served")
    assert harness.pids() == listeners
    with capture_logs() as logs:
        os.kill(listeners[0], signal.SIGKILL)
        harness.turn_until(
            lambda: listeners[0] not in harness.pids() and harness.all_caught_up(), "the listener to come back"
        )
    assert [each["code"] for each in logs if each["event"] == "listener ended"] == [forkserver.EXIT_CODE_LOST]
    assert [each["pid"] for each in logs if "fork server had ended" in each["event"]] == [forkserver._pid()]
    assert harness.created() == 20
    harness.stop()
    wait_until_gone(*listeners)
    assert harness.fleet.status().stops == {Reason.CRASHED: 1, Reason.SHUTDOWN: 2}


# Trouble


def test_a_listener_that_takes_no_message_holds_nobody_up(
    harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor's loop does not wait for the listener. It may have read half of a message, so it is killed."""
    monkeypatch.setattr(process_module, "_MAX_SEND_SECONDS", 0.2)
    listener = ListenerProcess(harness.start_message())
    until_greeted(listener)
    listener.signal(signal.SIGSTOP)
    for _ in range(2):
        listener.send(JournalNews(usable=True, spoken_of=("deletion:" + "x" * 100,) * 20_000))
    assert select.select([listener.pidfd], [], [], PATIENCE_SECONDS)[0], "the listener did not end"
    assert listener.reap() == -signal.SIGKILL


def test_a_start_with_a_fork_server_that_hangs_fails_and_the_next_one_works(
    server: int, harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor's loop waits for a limited time, and a failed start leaves no descriptor open."""
    before = set(pipes_and_sockets())
    os.kill(server, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(forkserver, "_MAX_WAIT_SECONDS", SHORT_SECONDS)
        with pytest.raises(OSError, match="the fork server ended"):
            ListenerProcess(harness.start_message())
    wait_until_gone(server)
    # Other threads of this process may close some descriptors at any moment.
    eventually(lambda: before.issuperset(pipes_and_sockets()), "no descriptor is left")
    process = ListenerProcess(harness.start_message())
    until_greeted(process)
    assert end(process) == -signal.SIGKILL


def test_an_end_that_a_hanging_fork_server_does_not_tell_of_is_seen(
    server: int, harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pidfd says that the process has ended, and the wait for its exit code is limited."""
    process = ListenerProcess(harness.start_message())
    until_greeted(process)
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(forkserver, "_MAX_WAIT_SECONDS", SHORT_SECONDS)
    assert end(process) == forkserver.EXIT_CODE_LOST
    wait_until_gone(server)


def test_a_fleet_gets_over_a_fork_server_that_hangs(
    server: int, harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed start the next try follows a back-off."""
    os.kill(server, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(forkserver, "_MAX_WAIT_SECONDS", SHORT_SECONDS)
        harness.fleet.adjust(Plan(harness.plan().assignments[:1]), harness.now())
    harness.turn_until(harness.all_caught_up, "the listener to be up after all")
    assert [each.restarts > 0 for each in harness.fleet.status().listeners] == [True]


def test_a_fork_server_that_ends_in_the_middle_of_a_start_makes_it_fail(server: int, harness: FleetHarness) -> None:
    """The fork server may be killed for lack of memory: the start raises an error, and leaves nothing open."""
    before = set(pipes_and_sockets())
    os.kill(server, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (server, signal.SIGKILL))
    killer.start()
    with pytest.raises(OSError, match="the fork server ended"):
        ListenerProcess(harness.start_message())
    killer.join()
    # Other threads of this process may close some descriptors at any moment.
    eventually(lambda: before.issuperset(pipes_and_sockets()), "no descriptor is left")


@pytest.mark.parametrize("error", [ProcessLookupError, OSError])
def test_a_listener_that_cannot_be_watched_does_not_count_as_started(
    standing_server: int, harness: FleetHarness, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """The process may be reaped already, or no descriptor is left: everything is closed, and the process ended."""
    before = set(pipes_and_sockets())

    def pidfd_open(pid: int) -> int:
        if error is ProcessLookupError:
            os.kill(pid, signal.SIGKILL)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", pidfd_open)
        with pytest.raises(error):
            ListenerProcess(harness.start_message())
    assert psutil.Process(standing_server).children() == []
    # Other threads of this process may close some descriptors at any moment.
    eventually(lambda: before.issuperset(pipes_and_sockets()), "no descriptor is left")


def test_starts_work_again_after_the_temporary_directory_was_cleaned_up(server: int, harness: FleetHarness) -> None:
    """The fork server's address is a file there, and many machines remove old files."""
    shutil.rmtree(multiprocess.util.get_temp_dir())
    with pytest.raises(FileNotFoundError):
        ListenerProcess(harness.start_message())
    wait_until_gone(server)
    process = ListenerProcess(harness.start_message())
    until_greeted(process)
    assert end(process) == -signal.SIGKILL


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no fork server: only the place of its address matters."""
    monkeypatch.setattr(multiprocess.forkserver, "ensure_running", lambda: None)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path, like most state directories."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.mark.usefixtures("no_server")
def test_what_a_killed_supervisor_left_is_cleared_by_the_next(config: dict[str, str | None], short: Path) -> None:
    """The address of its fork server is below the state directory, which only one instance holds at a time."""
    for _ in range(2):
        forkserver.begin(short)
        home = short / forkserver.DIRECTORY
        assert config["tempdir"] == str(home)
        assert (list(home.iterdir()), home.stat().st_mode & 0o777) == ([], 0o700)
        (home / "listener-12345678").touch()


@pytest.mark.usefixtures("no_server")
def test_a_path_too_long_for_a_socket_is_not_used(config: dict[str, str | None], short: Path) -> None:
    """A socket can be made below a state directory with the longest usable path, and not below a longer one."""
    config["tempdir"] = None
    room = 107 - len(f"{short}/") - len(f"/{forkserver.DIRECTORY}/listener-12345678")
    for length, used in ((room + 1, False), (room, True)):
        directory = short / ("x" * length)
        directory.mkdir()
        forkserver.begin(directory)
        assert (config["tempdir"] is not None) == used
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{config['tempdir']}/listener-12345678")


@pytest.mark.usefixtures("no_server")
def test_a_directory_that_cannot_be_made_does_not_stop_the_daemon(config: dict[str, str | None], short: Path) -> None:
    """The fork server has its address elsewhere, and the log says so."""
    config["tempdir"] = None
    (short / forkserver.DIRECTORY).touch()
    with capture_logs() as logs:
        forkserver.begin(short)
    assert [each["log_level"] for each in logs] == ["warning"]
    assert config["tempdir"] is None


@pytest.mark.usefixtures("config")
def test_a_fork_server_that_cannot_be_started_yet_does_not_stop_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The start is tried again with the first listener."""

    def ensure_running() -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocess.forkserver, "ensure_running", ensure_running)
    with capture_logs() as logs:
        forkserver.begin(tmp_path)
    # A path that is too long for a socket is only logged for debugging.
    assert [each["log_level"] for each in logs if each["log_level"] != "debug"] == ["warning"]


RUN_IN_CHILD = """
import os, sys
from pathlib import Path
from peruserd.supervisor import forkserver

if __name__ == "__main__":
    forkserver.begin(Path(sys.argv[1]))
    process = forkserver.CONTEXT.Process(target=os.getpid)
    forkserver.start(process)
    sys.exit(forkserver.join(process))
"""


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path) -> None:
    """Others may have put modules there. With a source tree there, two versions would talk to each other."""
    marker = tmp_path / "imported"
    decoy = tmp_path / "elsewhere" / "peruserd"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    script = tmp_path / "script.py"
    script.write_text(RUN_IN_CHILD)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, str(script), str(tmp_path)]
    assert subprocess.run(command, cwd=decoy.parent, env=environment, check=False).returncode == 0
    assert not marker.exists()
