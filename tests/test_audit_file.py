"""The file of the audit's lines: no line is lost, whatever happens to the file."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from peruserd import logs, threads
from peruserd.core.configuration.choices import LogFormat, LogLevel, LogUsers
from peruserd.core.configuration.config import LogConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.configuration.problems import exit_code_of
from peruserd.logs import audit_file as audit_file_module
from peruserd.logs.audit_file import AuditFile
from tests.logging_setup import logging_to
from tests.waiting import PATIENCE_SECONDS

CONSOLE = LogConfig(LogFormat.CONSOLE, LogLevel.DEBUG)

log = structlog.get_logger(__name__)


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    """Where the audit's file is to be."""
    return tmp_path / "logs" / "audit.log"


@pytest.fixture(autouse=True)
def _directory(audit_file: Path) -> None:
    audit_file.parent.mkdir()


@pytest.fixture
def no_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a file that is gone for one that nobody makes again."""
    monkeypatch.setattr(audit_file_module, "_ROTATION_SECONDS", 0.0)


def keeping(audit_file: Path, level: LogLevel = LogLevel.INFO) -> LogConfig:
    """Return the configuration of a log with such a file."""
    return LogConfig(LogFormat.CONSOLE, level, LogUsers.HASH, str(audit_file))


def numbers(file: Path) -> list[int]:
    """Return the numbers of the lines in a file."""
    return [json.loads(line)["number"] for line in file.read_text().splitlines()]


# What is in it


@pytest.mark.parametrize("level", list(LogLevel))
def test_audit_lines_go_to_their_file_whatever_the_level_of_the_log(audit_file: Path, level: LogLevel) -> None:
    """They are JSON there, users are named as in the log, and the log has them no more."""
    stream = StringIO()
    with logging_to(stream, keeping(audit_file, level), instance="node1"):
        log.info("audit", action="grant", document="org.couchdb.user:alice")
        log.info("noted")
        log.error("refused")
    (line,) = map(json.loads, audit_file.read_text().splitlines())
    assert (line["action"], line["instance"]) == ("grant", "node1")
    assert line["document"] == "org.couchdb.user:#2bd806c97f0e00af"
    assert "grant" not in stream.getvalue()
    assert ("noted" in stream.getvalue()) == (level in (LogLevel.DEBUG, LogLevel.INFO))
    assert "refused" in stream.getvalue()


def test_the_file_is_for_its_owner_and_group_and_lines_are_appended(audit_file: Path) -> None:
    """The mode is set whatever the mask of the service is. A file that is there keeps its own."""
    before = os.umask(0o077)
    try:
        for number in range(2):
            with logging_to(StringIO(), keeping(audit_file)):
                log.info("audit", number=number)
            assert audit_file.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
    audit_file.chmod(0o600)
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=2)
    assert audit_file.stat().st_mode & 0o777 == 0o600
    assert numbers(audit_file) == [0, 1, 2]


_WRITER = """
import sys, structlog
from peruserd import logs
from peruserd.core.configuration.choices import LogFormat
from peruserd.core.configuration.config import LogConfig
logs.configure(LogConfig(LogFormat.JSON, audit_file=sys.argv[1]), "userdb-")
log = structlog.get_logger()
for number in range(1_000):
    log.info("audit", number=number, filler=sys.argv[2] * 1_500)
"""


@pytest.mark.processes
def test_lines_of_several_processes_do_not_mix(audit_file: Path) -> None:
    """Each is one write at the end of the file."""
    command = (sys.executable, "-c", _WRITER, str(audit_file))
    writers = [subprocess.Popen((*command, filler)) for filler in "abc"]
    assert [each.wait(120.0) for each in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in audit_file.read_text().splitlines()]
    for filler in "abc":
        mine = [each for each in lines if each["filler"] == filler * 1_500]
        assert [each["number"] for each in mine] == list(range(1_000))
    assert len(lines) == 3_000


# Rotation


@pytest.mark.parametrize("how", ["open", "reconfigure", "create", "by itself"])
@pytest.mark.usefixtures("no_rotation")
def test_a_renamed_file_is_followed_by_a_new_one(audit_file: Path, how: str) -> None:
    """That is how logrotate works, with or without making the new file itself."""
    old = audit_file.with_suffix(".1")
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=1)
        audit_file.rename(old)
        match how:
            case "open":
                logs.open_audit_file()
            case "reconfigure":
                logs.reconfigure(keeping(audit_file))
            case "create":
                audit_file.touch()
        log.info("audit", number=2)
    assert (numbers(old), numbers(audit_file)) == ([1], [2])


def test_in_the_middle_of_a_rotation_lines_go_into_the_renamed_file(audit_file: Path) -> None:
    """A new file would be in the way of logrotate, which makes one with its own mode and owner."""
    old = audit_file.with_suffix(".1")
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=1)
        audit_file.rename(old)
        log.info("audit", number=2)
        assert not audit_file.exists()
        audit_file.touch()
        log.info("audit", number=3)
    assert (numbers(old), numbers(audit_file)) == ([1, 2], [3])


def test_a_truncated_file_begins_anew(audit_file: Path) -> None:
    """With `copytruncate` logrotate copies the file, and empties it."""
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=1)
        os.truncate(audit_file, 0)
        log.info("audit", number=2)
    assert numbers(audit_file) == [2]
    assert b"\0" not in audit_file.read_bytes()


def test_a_removed_file_is_made_anew_at_once(audit_file: Path) -> None:
    """Nobody could read what is written to a file without a name."""
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=1)
        audit_file.unlink()
        log.info("audit", number=2)
    assert numbers(audit_file) == [2]


# What cannot be written


def _nothing(_path: Path) -> None:
    """There is nothing at the path."""


def _link(path: Path) -> None:
    path.symlink_to(path.with_suffix(".target"))


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


UNUSABLE: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "no directory": (_nothing, "nowhere/audit.log", 75),
    "a file in place of the directory": (Path.touch, "audit.log/below", 78),
    "a directory": (Path.mkdir, "audit.log", 78),
    "too long": (_nothing, "x" * 300, 78),
    "no path": (_nothing, "a\0b", 78),
    "a pipe": (os.mkfifo, "audit.log", 75),
    "a link to nothing": (_link, "audit.log", 75),
    "a device": (_device, "audit.log", 78),
}


@pytest.mark.parametrize(("make", "below", "code"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_file_that_cannot_be_opened_is_an_error_of_the_start_alone(
    audit_file: Path, make: Callable[[Path], None], below: str, code: int
) -> None:
    """The key is named. Where the process goes on all the same, as a listener does, the log has the audit's lines."""
    make(audit_file)
    stream = StringIO()
    with logging_to(stream, keeping(audit_file.parent / below, LogLevel.ERROR)):
        with pytest.raises(ConfigError, match=r"^log\.audit_file: ") as caught:
            logs.open_audit_file()
        for action in ("grant", "drop"):
            log.info("audit", action=action)
    assert exit_code_of(caught.value) == code
    assert "action=grant" in stream.getvalue()
    assert "action=drop" in stream.getvalue()
    assert stream.getvalue().count("audit lines cannot be written to their file, and are in the log") == 1


def test_a_link_to_a_file_is_followed(audit_file: Path) -> None:
    """An operator may keep logs elsewhere."""
    _link(audit_file)
    audit_file.with_suffix(".target").touch()
    with logging_to(StringIO(), keeping(audit_file)):
        log.info("audit", number=1)
    assert audit_file.is_symlink()
    assert numbers(audit_file) == [1]


@pytest.mark.usefixtures("no_rotation")
def test_a_directory_that_goes_away_and_comes_back(audit_file: Path) -> None:
    """The lines are in the log meanwhile, and in the file again without a restart."""
    away = audit_file.parent.with_name("away")
    stream = StringIO()
    with logging_to(stream, keeping(audit_file)):
        log.info("audit", number=1)
        audit_file.parent.rename(away)
        log.info("audit", number=2)
        away.rename(audit_file.parent)
        log.info("audit", number=3)
    assert numbers(audit_file) == [1, 3]
    assert "number=2" in stream.getvalue()


def test_another_file_of_a_new_configuration_is_taken_also_before_it_can_be_opened(audit_file: Path) -> None:
    """The log says so, and has the lines until then. Without such a file they are in the log for good."""
    later = audit_file.parent / "later" / "audit.log"
    stream = StringIO()
    with logging_to(stream, keeping(audit_file)):
        log.info("audit", number=1)
        logs.reconfigure(keeping(later))
        log.info("audit", number=2)
        later.parent.mkdir()
        log.info("audit", number=3)
        logs.reconfigure(CONSOLE)
        log.info("audit", number=4)
    assert (numbers(audit_file), numbers(later)) == ([1], [3])
    assert [f"number={number}" in stream.getvalue() for number in range(1, 5)] == [False, True, False, True]
    assert stream.getvalue().count("audit lines cannot be written to their file, and are in the log") == 1


def test_audit_lines_that_cannot_be_written_are_in_the_log(audit_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk loses no line, and the reason is said once."""

    def fail(_file: AuditFile, _line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stream = StringIO()
    with logging_to(stream, keeping(audit_file, LogLevel.ERROR)):
        monkeypatch.setattr(AuditFile, "write_line", fail)
        for _ in range(100):
            log.info("audit", action="grant")
    assert stream.getvalue().count("action=grant") == 100
    assert stream.getvalue().count("No space left on device") == 1


@pytest.mark.parametrize("how", ["write_line", "open"])
def test_a_disk_that_hangs_is_no_thread_that_hangs(audit_file: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Whoever writes an audit line, or takes over a configuration, waits. A restart would wait for the same disk."""
    begun, may_end = threading.Event(), threading.Event()
    original = getattr(AuditFile, how)

    def hang(*arguments: object) -> object:
        begun.set()
        assert may_end.wait(PATIENCE_SECONDS)
        return original(*arguments)

    def write() -> None:
        log.info("audit", action="grant")
        logs.open_audit_file()

    with logging_to(StringIO(), keeping(audit_file)):
        register = threads.Register()
        thread = threads.LastingThread("worker-1", write, register=register)
        monkeypatch.setattr(AuditFile, how, hang)
        thread.start()
        assert begun.wait(PATIENCE_SECONDS)
        (life,) = register.lives()
        assert life.due == float("inf")
        may_end.set()
        assert thread.join(PATIENCE_SECONDS)


@contextmanager
def _largest_file(size: int) -> Any:
    """Let no file grow beyond a size, as on a full disk, where the last write can be a part."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_line_that_fits_in_part_is_whole_in_the_log_and_spoils_no_other(audit_file: Path) -> None:
    """The part stays in the file, on a line of its own. If somebody removes it, there is no empty line."""
    stream = StringIO()
    with logging_to(stream, keeping(audit_file)):
        log.info("audit", number=1)
        with _largest_file(audit_file.stat().st_size + 20):
            log.info("audit", number=2)
            log.info("audit", number=3)
        log.info("audit", number=4)
        assert len(audit_file.read_text().splitlines()) == 3
        with _largest_file(audit_file.stat().st_size + 20):
            log.info("audit", number=5)
        os.truncate(audit_file, audit_file.stat().st_size - 20)
        log.info("audit", number=6)
    first, part, last, after = audit_file.read_text().splitlines()
    assert json.loads(after)["number"] == 6
    assert (json.loads(first)["number"], json.loads(last)["number"]) == (1, 4)
    assert len(part) == 20
    assert [f"number={number}" in stream.getvalue() for number in range(1, 5)] == [False, True, True, False]
