"""`peruserd status`, `listeners` and `restart-listener`, with a daemon that gives the answers of a test."""

import contextlib
import json
import os
import pty
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from peruserd.cli import main
from peruserd.cli import status as status_command
from peruserd.cli.status_words import in_words, listeners_in_words
from peruserd.core.processes.control import (
    Answer,
    AskStatus,
    Done,
    Progress,
    Refused,
    Restarting,
    RestartListener,
    StatusIs,
)
from peruserd.core.processes.lifecycle import Reason, State
from peruserd.core.processes.status import InstanceRole, Opinion, Status, encode_status
from tests.cli.conftest import Serve
from tests.cli.running import peruserd
from tests.daemon.statuses import NODE, STATUS, evil_status
from tests.evil_names import EVIL, UNSERVABLE, harmful

RANGE = "00000000-7fffffff"


def answer(status: Status = STATUS) -> tuple[Answer, Answer]:
    """Return what a daemon with this status answers."""
    return StatusIs(msgspec.Raw(encode_status(status))), Done()


def changed(**fields: Any) -> Status:
    """Return the usual status with other fields."""
    return msgspec.structs.replace(STATUS, **fields)


def test_the_status_is_shown_in_words(serve: Serve, environment: dict[str, str]) -> None:
    """Everything an operator asks first is there."""
    orders = serve(*answer())
    ran = peruserd("status", environment=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert orders == [AskStatus()]
    lines = ran.stdout.splitlines()
    assert lines[0] == f"{NODE}: active; up 60 min, version 0.1.0"
    assert "  healthy  ok" in lines
    assert "  ready    ok" in lines
    assert any(line.startswith(f"{NODE} (this one)  alive") for line in lines)
    assert any(line.startswith(f"80000000-ffffffff  {NODE}") and line.endswith("has an instance") for line in lines)
    assert any(line.startswith(f"{RANGE}@{NODE}  running  following  0") for line in lines)
    assert "quarantine: 2 held" in lines
    assert "deletions: 1 wait, 2 held; paused: breaker" in lines
    assert lines[-1].endswith("listening to 2 of 2 ranges (the first plan after the start)")


def test_json_is_that_of_the_page(serve: Serve, environment: dict[str, str]) -> None:
    """Scripts read the same document from both."""
    serve(*answer())
    ran = peruserd("status", "--json", environment=environment)
    assert (ran.returncode, ran.stdout.encode()) == (0, encode_status(STATUS) + b"\n")


@pytest.mark.parametrize("part", ["healthy", "ready"])
def test_an_instance_that_is_not_well_is_not_done(serve: Serve, environment: dict[str, str], part: str) -> None:
    """The exit code says so for scripts, and the reason is printed."""
    serve(*answer(changed(**{part: Opinion(ok=False, why="waiting for CouchDB")})))
    ran = peruserd("status", environment=environment)
    assert ran.returncode == 1
    assert f"  {part:<8} no: waiting for CouchDB" in ran.stdout.splitlines()


def test_without_a_daemon_the_exit_code_is_75(environment: dict[str, str]) -> None:
    """It may be starting."""
    for command in ("status", "listeners"):
        ran = peruserd(command, "--json", environment=environment)
        assert (ran.returncode, json.loads(ran.stdout)["error"]) == (75, "no_daemon")


@pytest.mark.parametrize(
    "answers",
    [
        (Done(),),
        (StatusIs(msgspec.Raw(b'{"format":9}')), Done()),
        (StatusIs(msgspec.Raw(b'"words"')), Done()),
        (Progress(1, 2), Done()),
    ],
)
def test_a_daemon_of_another_version_is_named_as_such(
    serve: Serve, environment: dict[str, str], answers: tuple[Answer, ...]
) -> None:
    """Its answer is no error of the operator's, and never a traceback."""
    serve(*answers)
    ran = peruserd("status", environment=environment)
    assert ran.returncode == 1
    assert "another version" in ran.stderr


def test_new_fields_of_a_later_daemon_are_passed_over(serve: Serve, environment: dict[str, str]) -> None:
    """In the middle of an upgrade the command is older than the daemon."""
    later = msgspec.json.encode({**msgspec.json.decode(encode_status(STATUS)), "novelty": [1]})
    serve(StatusIs(msgspec.Raw(later)), Done())
    assert peruserd("status", environment=environment).returncode == 0


@pytest.mark.parametrize("name", [*EVIL, *UNSERVABLE])
def test_no_name_and_no_word_of_a_server_steers_the_terminal(name: str) -> None:
    """Nodes, leases and answers of a proxy can hold anything."""
    status = evil_status({**EVIL, **UNSERVABLE}[name])
    for shown in (in_words(status), listeners_in_words(status)):
        assert harmful(shown) == set()
    # Each text stays in its own line, because a line of its own would look like one of ours.
    assert len(in_words(status).splitlines()) == len(in_words(evil_status("x")).splitlines())


def test_what_needs_attention_is_said_at_the_top() -> None:
    """The command must not call an instance well whose alert fires, or of which the page says more."""
    status = changed(failing=("cluster-watch",), refused="x.toml: databse: unknown table", couch_peruser=True)
    head = in_words(status).split("\n\n")[0].splitlines()
    assert "  thread   cluster-watch fails, and is tried again; the log has the traceback" in head
    refused = "the last reload was refused, and the one before is in force: x.toml: databse: unknown table"
    assert f"  config   {refused}" in head
    assert any(line.endswith("[couch_peruser] enable = false on every node") for line in head)


def test_an_instance_without_a_node_yet_has_no_empty_name() -> None:
    """Before CouchDB has answered, the row of this instance has a mark in the place of the node."""
    me = msgspec.structs.replace(STATUS.instances[0], node="", is_me=True)
    assert any(line.startswith("- (this one) ") for line in in_words(changed(instances=(me,))).splitlines())


def test_troubles_are_said_below_the_listeners() -> None:
    """A table has no room for reasons."""
    (listener,) = STATUS.listeners
    failing = msgspec.structs.replace(
        listener, state=State.BACKOFF, why=Reason.CRASHED, failures=3, on_hold="no majority", lag_rows=None, pid=None
    )
    lines = listeners_in_words(changed(listeners=(failing,), omitted={"listeners": 4})).splitlines()
    assert lines[-3:] == [
        f"  {listener.copy} tries no user: no majority",
        f"  {listener.copy} has ended 3 times in a row (crashed), and is started again soon",
        "  4 more",
    ]


def test_an_instance_that_knows_nothing_yet_has_a_status() -> None:
    """Everything that is not known is left out."""
    status = changed(
        node=None,
        nodes=None,
        role=InstanceRole.WAITING,
        ready=Opinion(ok=False, why="waiting for CouchDB"),
        instances=(),
        ranges=(),
        listeners=(),
        plans=(),
        maintenance=True,
        couch_peruser=True,
        away=("n2",),
        authentication=msgspec.structs.replace(STATUS.authentication, trouble="the password is refused"),
    )
    lines = in_words(status).splitlines()
    assert lines[0].startswith("not attached to a node yet: does not know the cluster yet; ")
    assert "no listener: waiting for CouchDB" in lines
    assert "  login    the password is refused" in lines
    assert "  away     n2" in lines


class Clock:
    """Sleeps in no time, and interrupts the command as Ctrl-C does after some turns."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.time = time.time

    def sleep(self, _seconds: float) -> None:
        """Let one more turn follow, or none."""
        self.turns -= 1
        if not self.turns:
            raise KeyboardInterrupt


@pytest.fixture
def watch(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Watch in this process for two turns; return the exit code and the output."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(status_command, "time", Clock(2))
        code = main(["status", "--watch", *options])
        return code, capfd.readouterr().out

    return run


def test_watching_prints_again_and_again_until_ctrl_c(serve: Serve, watch: Callable[..., tuple[int, str]]) -> None:
    """Without a terminal nothing is overwritten. The exit code is that of the last status."""
    serve(*answer())
    code, shown = watch()
    assert code == 0
    assert shown.count(f"{NODE}: active") == 2
    assert "\x1b" not in shown


def test_watching_for_scripts_prints_a_document_each_time(watch: Callable[..., tuple[int, str]]) -> None:
    """A daemon that does not answer has a line too, so a restart can be watched."""
    code, shown = watch("--json")
    assert code == 75
    assert [json.loads(line)["error"] for line in shown.splitlines()] == ["no_daemon"] * 2


def test_watching_on_a_terminal_draws_in_place_and_never_beyond_it(
    serve: Serve, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit is counted. Each line fits, because a longer one would scroll the first ones away."""
    serve(*answer())
    for name, value in {**environment, "TERM": "xterm", "COLUMNS": "40", "LINES": "8"}.items():
        monkeypatch.setenv(name, value)
    parent, child = pty.openpty()
    with os.fdopen(child, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr(status_command, "time", Clock(2))
        assert main(["status", "--watch"]) == 0
    drawn = _all_written(parent).split("\x1b[H\x1b[J")
    assert len(drawn) == 3
    lines = drawn[1].splitlines()
    assert len(lines) == 7
    assert max(map(len, lines)) <= 40
    assert lines[-1].endswith("more lines")


def _all_written(parent: int) -> str:
    """Return what was written to a terminal that is closed: one reading may return a part, and the end is an error."""
    parts: list[bytes] = []
    with os.fdopen(parent, "rb", buffering=0) as terminal, contextlib.suppress(OSError):
        while part := terminal.read(65_536):
            parts.append(part)
    return b"".join(parts).decode()


def test_a_listener_is_started_again(serve: Serve, environment: dict[str, str]) -> None:
    """The command returns once the new process reads its copy."""
    orders = serve(Restarting(f"{RANGE}@{NODE}"), Done())
    ran = peruserd("restart-listener", RANGE, environment=environment)
    assert (ran.returncode, ran.stdout) == (0, f"{RANGE}@{NODE}: reads its copy again\n")
    assert ran.stderr == f"peruserd: {RANGE}@{NODE} starts again\n"
    assert orders == [RestartListener(RANGE)]


def test_nobody_need_wait_for_a_listener(serve: Serve, environment: dict[str, str]) -> None:
    """The order alone is done at once."""
    orders = serve(Restarting(f"{RANGE}@{NODE}"), Done())
    ran = peruserd("restart-listener", RANGE, "--no-wait", "--json", environment=environment)
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"done": True, "listener": f"{RANGE}@{NODE}"})
    assert orders == [RestartListener(RANGE, waits=False)]


@pytest.mark.parametrize(("again", "code"), [(False, 1), (True, 75)])
def test_a_listener_that_does_not_come_back_is_said(
    serve: Serve, environment: dict[str, str], *, again: bool, code: int
) -> None:
    """The exit code says whether a later look may help."""
    serve(Restarting(RANGE), Refused("does not read its copy yet", again))
    ran = peruserd("restart-listener", RANGE, environment=environment)
    assert ran.returncode == code
    assert "does not read its copy yet" in ran.stderr


def test_listeners_that_have_not_caught_up_are_not_done(serve: Serve, environment: dict[str, str]) -> None:
    """The table shows which one."""
    (listener,) = STATUS.listeners
    serve(*answer(changed(listeners=(msgspec.structs.replace(listener, caught_up=False),))))
    ran = peruserd("listeners", environment=environment)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[1].startswith(listener.copy)


def test_listeners_in_json_are_those_of_the_status(serve: Serve, environment: dict[str, str]) -> None:
    """With the number of those that were left out."""
    serve(*answer(changed(omitted={"listeners": 7})))
    ran = peruserd("listeners", "--json", environment=environment)
    assert json.loads(ran.stdout) == {
        "listeners": json.loads(encode_status(STATUS))["listeners"],
        "omitted": 7,
    }
