"""`peruserd unit`: the systemd unit of this installation."""

import json

from tests.cli.running import peruserd


def test_another_program_can_be_named() -> None:
    """A unit can be printed for another machine."""
    printed = peruserd("unit", "--program", "/opt/peruserd/bin/peruserd", "--json")
    assert (printed.returncode, printed.stderr) == (0, "")
    answer = json.loads(printed.stdout)
    assert answer["program"] == "/opt/peruserd/bin/peruserd"
    assert "\nExecStart=/opt/peruserd/bin/peruserd run --config /etc/peruserd/peruserd.toml\n" in answer["unit"]


def test_a_program_that_the_unit_hides_is_said() -> None:
    """The service would end with 203, and its log would not say why."""
    printed = peruserd("unit", "--program", "/home/ann/venv/bin/peruserd")
    assert printed.returncode == 0
    assert "cannot start /home/ann/venv/bin/peruserd" in printed.stderr


def test_a_path_that_systemd_would_read_otherwise_is_refused() -> None:
    """A percent sign is a specifier there, a blank ends the path, and a relative path is none."""
    for path in ("/opt/100%n/peruserd", "/opt/per user/peruserd", "bin/peruserd", "/opt/a\nb"):
        assert peruserd("unit", "--program", path).returncode == 2
