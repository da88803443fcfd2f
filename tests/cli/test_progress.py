"""The progress of commands on a terminal."""

import errno
import io
import sys
import threading

import pytest

from peruserd.cli import progress as progress_module
from peruserd.cli.progress import Progress, announce, announce_if_slow


class Terminal(io.StringIO):
    """Standard error, as a terminal or as a file."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self._is_terminal


def _shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, quiet_seconds: float, total: int | None) -> str:
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with Progress("users", total, quiet_seconds=quiet_seconds) as progress:
        progress.advance(1_500)
    return terminal.getvalue()


def test_a_bar_is_shown_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shows the number done and the total, in one line that is removed at the end."""
    said = _shown(monkeypatch, is_terminal=True, quiet_seconds=0.0, total=3_000)
    assert f"[{'#' * 15}{'.' * 15}] 1,500 of 3,000 users" in said
    assert said.endswith("\r\x1b[K")


def test_without_a_total_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The total is unknown while users are listed."""
    assert "\r1,500 users" in _shown(monkeypatch, is_terminal=True, quiet_seconds=0.0, total=None)


@pytest.mark.parametrize(("is_terminal", "quiet_seconds"), [(True, 60.0), (False, 0.0)])
def test_nothing_is_shown_of_quick_work_or_to_a_file(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, quiet_seconds: float
) -> None:
    """Short work needs no bar, and a log has no use for one."""
    assert _shown(monkeypatch, is_terminal=is_terminal, quiet_seconds=quiet_seconds, total=3_000) == ""


def test_a_bar_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that wraps could not be overwritten."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(is_terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    with Progress("users looked at", 3_000, quiet_seconds=0.0) as progress:
        progress.advance(1_500)
    line = terminal.getvalue().split("\r")[1].partition("\x1b")[0]
    assert line.startswith("[#####")
    assert len(line) == 39


class Stopped(Terminal):
    """A terminal that takes no more bytes, because another program has set it to non-blocking."""

    def flush(self) -> None:
        """Write nothing."""
        raise BlockingIOError(errno.EAGAIN, "write could not complete without blocking")


def test_a_bar_that_cannot_be_written_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work may change users' databases, and goes on to its end."""
    monkeypatch.setattr(sys, "stderr", terminal := Stopped(is_terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    with Progress("users", 3_000, quiet_seconds=0.0) as progress:
        progress.advance(1_500)
    assert "1,500 of 3,000 users" in terminal.getvalue()


@pytest.mark.parametrize("kind", ["dumb", ""])
def test_a_terminal_that_cannot_write_over_a_line_gets_lines(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """No control character goes to it."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(is_terminal=True))
    monkeypatch.setenv("TERM", kind)
    with Progress("users", 3_000, quiet_seconds=0.0) as progress:
        progress.advance(1_500)
        progress.advance(1)
    assert terminal.getvalue() == "peruserd: 1,500 of 3,000 users\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_begins_is_said_where_no_bar_can_say_it(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> None:
    """A log is not silent while a command works; a terminal gets the bar."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal(is_terminal=is_terminal))
    announce("looking at 3 users")
    assert terminal.getvalue() == ("" if is_terminal else "peruserd: looking at 3 users\n")


def test_a_wait_is_told_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is printed once, and not at all if the answer comes soon."""
    said: list[str] = []
    is_told = threading.Event()

    def say(words: str) -> None:
        said.append(words)
        is_told.set()

    monkeypatch.setattr(progress_module, "say", say)
    with announce_if_slow("waiting for the daemon"):
        pass
    monkeypatch.setattr(progress_module, "_QUIET_SECONDS", 0.0)
    with announce_if_slow("waiting for the server"):
        assert is_told.wait(60)
    assert said == ["waiting for the server"]
