"""`peruserd completion`: what a shell offers when somebody types the beginning of a word."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from peruserd.cli.installing_parsers import SHELLS
from peruserd.cli.parser import main
from tests.cli.running import peruserd


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the file for bash."""
    file = tmp_path_factory.mktemp("completion") / "peruserd"
    printed = peruserd("completion", "bash")
    assert (printed.returncode, printed.stderr) == (0, "")
    file.write_text(printed.stdout)
    return file


def offered(script: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    typed = " ".join(map(shlex.quote, ("peruserd", *words)))
    commands = (
        f". {shlex.quote(str(script))}",
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}",
        # The function is the one that bash would call.
        "$(complete -p peruserd | sed 's/.*-F \\([^ ]*\\).*/\\1/')",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    )
    bash = ["bash", "--norc", "--noprofile", "-u", "-c", "\n".join(commands)]
    ran = subprocess.run(bash, capture_output=True, text=True, timeout=60, check=True)
    return sorted(ran.stdout.split("\n"))[1:]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["qu"], ["quarantine"]),
        (["quarantine", "re"], ["retry"]),
        (["audit", "--re"], ["--repair"]),
        (["quarantine", "list", "--kind", "hel"], ["held"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["deletions", "resume", "--"], ["--config", "--help", "--json", "--only"]),
    ],
)
def test_bash_offers_commands_options_and_their_values(script: Path, typed: list[str], words: list[str]) -> None:
    """The parser says what there is, so nothing is listed by hand."""
    assert offered(script, *typed) == words


def test_bash_offers_files_for_the_configuration(script: Path, tmp_path: Path) -> None:
    """An option whose value is a path completes paths."""
    (tmp_path / "peruserd.toml").touch()
    (tmp_path / "other").touch()
    assert offered(script, "check", "--config", f"{tmp_path}/peru") == [f"{tmp_path}/peruserd.toml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_file(shell: str) -> None:
    """JSON has the same text as the plain output, which names the program."""
    plain = peruserd("completion", shell).stdout
    answer = json.loads(peruserd("completion", shell, "--json").stdout)
    assert answer["shell"] == shell
    assert answer["script"].rstrip() == plain.rstrip()
    assert "quarantine" in plain


def test_a_plain_installation_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Packages ship what the library has written, so a daemon needs no library for it."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] == "missing_extra"
    assert "from the sources: pip install '.[completion]'" in captured.err
