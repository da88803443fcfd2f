"""`python -m bench report` on invented runs."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

import bench.__main__
from bench import provision, report
from bench.harness.contenders import BUILTIN, PERUSERD
from bench.results import Figure, Result


def keep(directory: Path, name: str = "speed", figures: dict[str, Figure] | None = None, **parameters: Any) -> Path:
    """Write a result as a benchmark does; return the directory."""
    Result(name, parameters, [], figures=figures or {}).write_json(directory)
    return directory


def change(path: Path, **fields: Any) -> None:
    """Overwrite fields of a result; None removes a field."""
    written = msgspec.json.decode(path.read_bytes()) | fields
    path.write_bytes(msgspec.json.encode({key: value for key, value in written.items() if value is not None}))


def cells(text: str, first: str) -> list[str]:
    """Return the cells of the only row that begins with this cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (row,) = [row for row in rows if row[0] == first]
    return row


def test_figures_are_set_side_by_side(tmp_path: Path) -> None:
    """Each run has its median, least and most, and the goal is beside them. A ratio is to the first run's median."""
    one = keep(tmp_path / "a", figures={"rate": Figure((80.0, 100.0, 125.0), "users/s", "higher", 90.0)})
    two = keep(tmp_path / "b", figures={"rate": Figure((12_345.6,), "users/s", "higher", 90.0)})
    text = report.text([report.read(one), report.read(two)])
    assert cells(text, "figure") == ["figure", "goal", str(one), str(two), f"{two} / {one}"]
    assert cells(text, "rate, users/s (higher is better)")[1:] == [
        "at least 90",
        "100 (80–125)",  # noqa: RUF001
        "12,346",
        "123.46",
    ]


def test_small_figures_keep_their_digits(tmp_path: Path) -> None:
    """A ratio has two digits behind the point, and a tiny figure has three digits."""
    figures = {"ratio": Figure((1.234,), "", "lower", 1.5), "tiny": Figure((0.0012345,), "s", "lower")}
    text = report.text([report.read(keep(tmp_path, figures=figures))])
    assert cells(text, "ratio (lower is better)")[1:] == ["at most 1.5", "1.23"]
    assert cells(text, "tiny, s (lower is better)")[1:] == ["–", "0.00123"]  # noqa: RUF001


def test_only_differences_between_runs_are_shown(tmp_path: Path) -> None:
    """Parameters (nested ones too), the machine and its libraries are compared. Equal ones are left out."""
    one = keep(tmp_path / "a", users=10, quick=False, settings={"ttl": 20.0, "poll": 2.0})
    two = keep(tmp_path / "b", users=20, quick=False, settings={"ttl": 30.0, "poll": 2.0}, extra="x")
    written = msgspec.json.decode((two / "speed.json").read_bytes())
    change(two / "speed.json", measured_on=written["measured_on"] | {"cores": 99, "libraries": {"msgspec": "0.0"}})
    text = report.text([report.read(one), report.read(two)])
    assert cells(text, "parameters: users")[1:] == ["10", "20"]
    assert cells(text, "parameters: settings: ttl")[1:] == ["20.0", "30.0"]
    assert cells(text, "parameters: extra")[1:] == ["–", "x"]  # noqa: RUF001
    assert cells(text, "measured on: cores")[2] == "99"
    assert cells(text, "measured on: libraries: msgspec")[2] == "0.0"
    assert not any(word in text for word in ("quick", "poll", "processor"))


def test_a_benchmark_that_a_run_lacks_has_empty_cells(tmp_path: Path) -> None:
    """Every benchmark of any run is shown. There is no ratio where one side is missing, zero, or of another unit."""
    one = keep(tmp_path / "a", figures={"wait": Figure((0.0,), "s", "lower"), "size": Figure((1.0,), "MB", "lower")})
    two = keep(tmp_path / "b", figures={"wait": Figure((5.0,), "s", "lower"), "size": Figure((1.0,), "GB", "lower")})
    keep(two, "other", figures={"rate": Figure((5.0,), "1/s", "higher")})
    text = report.text([report.read(one), report.read(two)])
    assert text.index("## other") < text.index("## speed")
    assert cells(text, "rate, 1/s (higher is better)")[2:] == ["–", "5.00", "–"]  # noqa: RUF001
    assert cells(text, "wait, s (lower is better)")[2:] == ["0.00", "5.00", "–"]  # noqa: RUF001
    assert cells(text, "size, MB (lower is better)")[-1] == "–"  # noqa: RUF001


def test_one_run_has_nothing_that_differs(tmp_path: Path) -> None:
    """A single directory gives its figures. For a benchmark without figures a sentence says so."""
    text = report.text([report.read(keep(tmp_path, users=10))])
    assert text == "## speed\n\nIt has no figures to compare."


def test_results_without_figures_are_named_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An old result has no figures. The other results are compared all the same."""
    keep(tmp_path, "old")
    keep(tmp_path, "new", figures={"rate": Figure((5.0,), "1/s", "higher")})
    change(tmp_path / "old.json", figures=None)
    assert report.main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert f"skipped: {tmp_path / 'old.json'}" in printed.err
    assert "## new" in printed.out
    assert "old" not in printed.out.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param("{", "not the results of a benchmark", id="no JSON"),
        pytest.param("\xff", "not the results of a benchmark", id="no UTF-8"),
        pytest.param("[1]", "Expected `object`", id="no object"),
        pytest.param('{"name": "speed"}', "missing required field `measured_on`", id="another shape"),
        pytest.param(
            '{"name": "speed", "measured_on": {}, "parameters": {}, "figures": {"x": {"values": []}}}',
            "$.figures[...].values",
            id="a figure without values",
        ),
        pytest.param(
            '{"name": "other", "measured_on": {}, "parameters": {}}', "has the results of 'other'", id="another name"
        ),
        pytest.param('{"name": "speed", "measured_on": {}, "parameters": {}}', "too old", id="nothing but old ones"),
    ],
)
def test_files_that_are_no_results_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, complaint: str
) -> None:
    """The message names the file and the reason, and no result is printed."""
    path = tmp_path / "speed.json"
    path.write_bytes(content.encode("latin-1"))
    assert report.main([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert str(path) in printed.err
    assert complaint in printed.err
    assert not printed.out


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_directories_without_results_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A directory is named if it is missing, if it is a file, or if it has no result."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    good = keep(tmp_path / "good")
    assert report.main([str(good), str(tmp_path / name)]) == 2
    assert f"bench report: {tmp_path / name}: no " in capsys.readouterr().err


def test_a_result_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory with the name of a result is such a case."""
    (tmp_path / "speed.json").mkdir()
    assert report.main([str(tmp_path)]) == 2
    assert "speed.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 2)])
def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> None:
    """`python -m bench report` has a help text of its own, and needs a directory."""
    with pytest.raises(SystemExit) as left:
        bench.__main__.main(["report", *arguments])
    assert left.value.code == code
    printed = capsys.readouterr()
    assert "python -m bench report" in printed.out + printed.err


def test_a_result_says_what_became_of_its_goals() -> None:
    """Each figure that has a goal shows its median beside the bound. A median that equals the bound reaches it."""
    figures = {
        "rate": Figure((80.0, 100.0, 125.0), "users/s", "higher", 100.0),
        "wait": Figure((1.2, 1.6, 1.9), "s", "lower", 1.5),
        "memory": Figure((9.0,), "MiB", "lower"),
    }
    goals = Result("speed", {}, [], figures=figures).text().splitlines()[4:]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in goals] == [
        ["rate, users/s", "100 (80–125)", "at least 100", "reached"],  # noqa: RUF001
        ["wait, s", "1.60 (1.20–1.90)", "at most 1.5", "missed"],  # noqa: RUF001
    ]
    assert Result("speed", {}, []).text() == ""


def test_provision_gives_figures_that_agree_with_its_summary() -> None:
    """Rates by contender are of every round, and the ratios are those of the summary."""

    def sample(contender: str, number: int, seconds: float, used: float | None = None) -> provision.Sample:
        return provision.Sample(contender, number, 100, 0, seconds, [(0.0, 0)], used)

    samples = [
        sample(provision.ceiling(16), 0, 1.0),
        sample(PERUSERD, 0, 2.0, 3.0),
        sample(BUILTIN, 0, 5.0),
        sample(provision.ceiling(16), 1, 1.0),
        sample(PERUSERD, 1, 2.0, 5.0),
        sample(BUILTIN, 1, 4.0),
    ]
    found = provision.figures(samples)
    assert found["rate: peruserd"].values == (50.0, 50.0)
    assert found["rate: couch_peruser"].values == (20.0, 25.0)
    assert found["peruserd / ceiling"].values == (0.5,)
    assert found["peruserd / couch_peruser"].values == (50.0 / 22.5,)
    assert found["processor time of a user"].values == (3.0, 5.0)
    without = [each for each in samples if each.contender != BUILTIN]
    assert "peruserd / couch_peruser" not in provision.figures(without)
