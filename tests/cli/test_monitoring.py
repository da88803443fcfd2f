"""`peruserd monitoring export`: the files, and what is not written over."""

import json
import stat
from pathlib import Path

import pytest

from peruserd.cli import main
from peruserd.monitoring.exported import RULES_FILE, Form
from peruserd.monitoring.files import README_FILE, files
from tests.cli.running import peruserd


def export(directory: Path, *options: str) -> int:
    """Run the command in this process."""
    return main(["monitoring", "export", str(directory), *options])


def test_the_files_are_written_and_named(tmp_path: Path) -> None:
    """Everybody may read them, because Prometheus and Grafana have accounts of their own."""
    directory = tmp_path / "new" / "peruserd"
    exported = peruserd("monitoring", "export", str(directory))
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.splitlines() == [str(directory / name) for name in files(Form())]
    for name, text in files(Form()).items():
        assert (directory / name).read_text() == text
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o644
    assert sorted(each.name for each in directory.iterdir()) == sorted(files(Form()))


def test_options_reach_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job, links and a scale; with `--json` the files are in one object."""
    arguments = ("--job", "couch/users", "--runbook", "https://wiki/alerts", "--scale", "0.1", "--json")
    assert export(tmp_path, *arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"directory": str(tmp_path), "files": list(files(Form()))}
    rules = (tmp_path / RULES_FILE).read_text()
    assert 'up{job="couch/users"} == 0\'\n        for: 12s' in rules
    assert 'runbook_url: "https://wiki/alerts#peruserddown"' in rules
    assert "job_name: couch/users" in (tmp_path / README_FILE).read_text()


def test_a_file_that_somebody_has_changed_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None is written then; the same contents are no change, and `--overwrite` replaces all."""
    assert export(tmp_path) == 0
    assert export(tmp_path) == 0
    (tmp_path / RULES_FILE).write_text("mine")
    (tmp_path / README_FILE).unlink()
    capsys.readouterr()
    assert export(tmp_path, "--json") == 1
    failure = json.loads(capsys.readouterr().out)
    assert failure["error"] == "exists"
    assert RULES_FILE in failure["reason"]
    assert (tmp_path / RULES_FILE).read_text() == "mine"
    assert not (tmp_path / README_FILE).exists()
    assert export(tmp_path, "--overwrite") == 0
    assert (tmp_path / RULES_FILE).read_text() == files(Form())[RULES_FILE]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Whoever may write to the directory must not choose which file is written over."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = tmp_path / "rules"
    directory.mkdir()
    (directory / RULES_FILE).symlink_to(victim)
    assert export(directory) == 1
    assert export(directory, "--overwrite") == 0
    assert victim.read_text() == "precious"
    assert not (directory / RULES_FILE).is_symlink()


@pytest.mark.parametrize("there", ["file", "folder"])
def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in place of the directory, or a folder in place of a file, and nothing is left half written."""
    directory = tmp_path / "rules"
    if there == "file":
        directory.write_text("")
    else:
        (directory / RULES_FILE).mkdir(parents=True)
    assert export(directory, "--overwrite") == 1
    assert f"cannot write to {directory}" in capsys.readouterr().err
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--job", 'a"b'],
        ["--job", ""],
        ["--job", "a\nb"],
        ["--runbook", "a b"],
        ["--scale", "0"],
        ["--scale", "nan"],
        ["--scale", "1e9"],
    ],
)
def test_what_would_break_the_files_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    """A job and a link stand in expressions, in YAML and in JSON as they are."""
    assert export(tmp_path / "rules", *arguments) == 2
    assert not (tmp_path / "rules").exists()
