"""Log lines never show credentials."""

import contextlib
import json
import sys
from pathlib import Path

import pytest
import structlog

from peruserd import logs
from peruserd.core.configuration.choices import LogFormat, LogLevel
from peruserd.core.configuration.config import LogConfig


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_traceback_shows_where_and_no_local_variable(capsys: pytest.CaptureFixture[str], form: LogFormat) -> None:
    """An error in the middle of a request must not put its credentials into the log."""
    before = structlog.get_config()

    def request() -> None:
        password = "hunter" + str(1 + 1)
        raise ValueError(f"a fault with {len(password)} characters at hand")

    try:
        logs.configure(LogConfig(format=form), instance="node1")
        try:
            request()
        except ValueError as error:
            structlog.get_logger().error("fault", exc_info=error)
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert "a fault with 7 characters" in written
    assert "request" in written
    assert "node1" in written
    assert "hunter2" not in written


def test_level_and_form_change_for_loggers_that_were_used_before(capsys: pytest.CaptureFixture[str]) -> None:
    """A reload reaches each module, although each keeps its logger from its first line on."""
    before = structlog.get_config()
    log = structlog.get_logger()
    try:
        logs.configure(LogConfig(LogFormat.JSON), instance="node1")
        log.debug("too little")
        log.info("first")
        logs.reconfigure(LogConfig(LogFormat.CONSOLE, LogLevel.DEBUG))
        log.debug("second")
        logs.reconfigure(LogConfig(LogFormat.JSON, LogLevel.ERROR))
        log.warning("too little")
        log.error("third")
    finally:
        structlog.configure(**before)
    first, second, third = capsys.readouterr().err.splitlines()
    assert (json.loads(first)["event"], json.loads(first)["instance"]) == ("first", "node1")
    assert "second" in second
    assert "instance=node1" in second
    assert (json.loads(third)["event"], json.loads(third)["level"]) == ("third", "error")


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk under the log must stop no listener, and neither must a descriptor that is only open for reading."""
    before = structlog.get_config()
    file = Path(path).open("r+" if path == "/dev/full" else "r", encoding="utf-8")  # noqa: SIM115 - closed below
    monkeypatch.setattr(sys, "stderr", file)
    try:
        logs.configure(LogConfig(format=LogFormat.JSON))
        for _ in range(3):
            structlog.get_logger().error("said" * 10_000)
    finally:
        structlog.configure(**before)
        with contextlib.suppress(OSError):
            file.close()
