"""The progress of commands on a terminal."""

import io
import sys

import pytest

from peruserd.cli.progress import Progress


class Terminal(io.StringIO):
    """Standard error, as a terminal or as a file."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Say whether somebody watches."""
        return self._is_terminal


def _shown(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, quiet_seconds: float, total: int | None) -> str:
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("users", total, quiet_seconds=quiet_seconds) as progress:
        progress.advance(1_500)
    return terminal.getvalue()


def test_a_bar_is_shown_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how many of how many, in one line that leaves no trace."""
    said = _shown(monkeypatch, is_terminal=True, quiet_seconds=0.0, total=3_000)
    assert f"[{'#' * 15}{'.' * 15}] 1,500 of 3,000 users" in said
    assert said.endswith("\r\x1b[K")


def test_without_a_total_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many there will be is not known while they are listed."""
    assert "\r1,500 users" in _shown(monkeypatch, is_terminal=True, quiet_seconds=0.0, total=None)


@pytest.mark.parametrize(("is_terminal", "quiet_seconds"), [(True, 60.0), (False, 0.0)])
def test_nothing_is_shown_of_quick_work_or_to_a_file(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool, quiet_seconds: float
) -> None:
    """Work of moments needs no bar, and a log has no use for one."""
    assert _shown(monkeypatch, is_terminal=is_terminal, quiet_seconds=quiet_seconds, total=3_000) == ""
