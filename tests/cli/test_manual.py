"""`peruserd manual`: pages that `man` understands, about every command, option and key."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from peruserd.cli.manual import PAGES
from peruserd.cli.parser import build_parser
from peruserd.cli.roff import Page, bold, italic, plain
from peruserd.core.configuration.config import Config
from tests.cli.running import peruserd
from tests.cli.test_every_command import parsers

# A page without a date is the same whenever it is made.
_PASSED_OVER = re.compile(r"missing date, using \"\": TH$")


@pytest.fixture
def typeset(need_tool: Callable[[str], str]) -> Callable[[str], str]:
    """Show a page as a terminal does, without bold and underlined letters."""
    mandoc = need_tool("mandoc")

    def show(page: str) -> str:
        command = [mandoc, "-T", "utf8", "-O", "width=200"]
        shown = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60, check=True).stdout
        return re.sub(".\b", "", shown)

    return show


@pytest.mark.parametrize("page", PAGES)
def test_man_understands_the_page(page: str, need_tool: Callable[[str], str], tmp_path: Path) -> None:
    """There is no unknown request, and no text that is lost."""
    file = tmp_path / page
    file.write_text(PAGES[page](), encoding="utf-8")
    command = [need_tool("mandoc"), "-T", "lint", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert [line for line in told.stdout.splitlines() if not _PASSED_OVER.search(line)] == []


def test_every_command_and_option_is_in_the_page(typeset: Callable[[str], str]) -> None:
    """A command has its own part, with its description, and each option has its help there or among the common ones."""
    shown = " ".join(typeset(PAGES["peruserd.1"]()).split())
    for name, parser in parsers(build_parser()):
        part = shown.partition(f"{parser.description} ")[2]
        assert part, name
        for action in parser._actions:
            for option in action.option_strings:
                if option not in ("-h", "--help"):
                    assert f" {option} " in shown
            words = (action.help or "").partition("%")[0]
            assert action.dest == "help" or words in shown, f"{name}: {words}"


def test_every_key_is_in_the_page_with_its_default(typeset: Callable[[str], str]) -> None:
    """Each key follows the name of its table."""
    shown = typeset(PAGES["peruserd.toml.5"]())
    for table in msgspec.structs.fields(Config):
        part = shown.partition(f"\n[{table.name}]\n")[2].partition("\n[")[0]
        for key in msgspec.structs.fields(table.type):
            # The words about a short key stand on its own line.
            assert re.search(rf"^       {key.name}(| = .*|  +[A-Z].*)$", part, re.MULTILINE), f"{table.name}.{key.name}"
    assert '\n       prefix = "userdb-"\n' in shown


def test_text_is_shown_as_it_is(typeset: Callable[[str], str]) -> None:
    """A dot or an apostrophe at the beginning of a line makes no request, and a backslash none either."""
    page = Page("x", 1, source="x", manual="x")
    page.section("NAME")
    page.text(plain(r".TH 'quoted' a\fBc --no-wait ~/x ^y `z` José … .so /etc/passwd"))
    page.item(f"{bold('.SH')} {italic('WORD')}", plain("'br is no break"))
    page.example(".SH one\n'br two\n  \\three")
    shown = typeset(str(page))
    for each in (r".TH 'quoted' a\fBc --no-wait ~/x ^y `z` José … .so /etc/passwd", ".SH WORD", "'br is no break"):
        assert each in shown
    assert re.search(r"\.SH one\n +'br two\n +\\three\n", shown)


def test_the_command_prints_a_page() -> None:
    """The first page is printed where none is named; JSON has the same text."""
    assert peruserd("manual").stdout == PAGES["peruserd.1"]()
    answer = json.loads(peruserd("manual", "peruserd.toml.5", "--json").stdout)
    assert answer == {"page": "peruserd.toml.5", "text": PAGES["peruserd.toml.5"]()}
    assert peruserd("manual", "peruserd.2").returncode == 2
