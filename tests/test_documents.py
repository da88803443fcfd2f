"""The documents name every key, metric and command, and their links work."""

import re
import shlex
from functools import cache
from pathlib import Path

import msgspec
import pytest

from peruserd.cli.parser import build_parser
from peruserd.core.configuration.changes import EFFECTS, Effect
from peruserd.core.configuration.config import Config
from peruserd.core.processes.status import Status
from peruserd.monitoring.documents import made_parts, replaced
from peruserd.monitoring.table import FAMILIES, SECTIONS

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
parser = cache(build_parser)
COMMAND = re.compile(r"(?<![\w/.-])peruserd +([a-z-]+)")


def defaults() -> dict[str, object]:
    """Return each key of the configuration, as `table.key`, with its default."""
    whole = msgspec.structs.asdict(Config())
    return {
        f"{table}.{key}": value for table, keys in whole.items() for key, value in msgspec.structs.asdict(keys).items()
    }


def rows(page: str) -> list[list[str]]:
    """Return the cells of each row of each table of a page in `docs`."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def examples(page: Path) -> list[str]:
    """Return the lines of the blocks of code of a page, which are indented or fenced."""
    found, fenced = [], False
    for line in page.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(line)
    return found


@pytest.mark.parametrize("key", sorted(defaults()))
def test_a_key_is_in_the_table_of_the_configuration_with_its_default(key: str) -> None:
    """A row can have several keys, with their defaults in the same order."""
    (row,) = [each for each in rows("configuration.md") if f"`{key}`" in each[0]]
    value = defaults()[key]
    shown = str(value).lower() if isinstance(value, bool) else getattr(value, "value", value)
    keys, values = row[0].split(", "), row[1].replace("`", "").split(", ")
    if isinstance(shown, int | float) and not isinstance(value, bool):
        assert float(values[keys.index(f"`{key}`")]) == shown
    elif shown is not None:
        assert values[keys.index(f"`{key}`")] == shown


@pytest.mark.parametrize("name", made_parts())
def test_the_made_part_of_a_document_is_current(name: str) -> None:
    """After a change of the code, `make docs` writes the document anew."""
    page = (ROOT / "docs" / name).read_text()
    assert replaced(page, made_parts()[name]) == page, "run make docs"


def test_the_table_of_the_metrics_has_each_name_once() -> None:
    """Of two metrics with one name only the last would be exported, and the document would show both."""
    names = [family.name for families in SECTIONS.values() for family in families]
    assert [name for name in names if names.count(name) > 1] == []


def test_the_metrics_that_documents_name_are_those_that_there_are() -> None:
    """The page of the metrics names each metric of the table, and no page names another one."""
    known = {name for family in FAMILIES.values() for name in (family.name, *family.series_names)}
    for page in PAGES:
        named = set(re.findall(r"`(peruserd_[a-z_]+)", page.read_text()))
        assert named <= known, page
    named = set(re.findall(r"`(peruserd_[a-z_]+)", (ROOT / "docs" / "metrics.md").read_text()))
    assert {family.sample_name for family in FAMILIES.values()} <= named


@pytest.mark.parametrize("key", sorted(defaults()))
def test_the_table_of_the_configuration_says_what_a_reload_does_to_a_key(key: str) -> None:
    """All keys of a row have the same effect."""
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    (line,) = [each for each in lines if re.match(rf"\| [^|]*`{key}`[^|]* \|", each)]
    words = {Effect.AT_ONCE: "at once", Effect.LISTENERS: "listeners", Effect.RESTART: "restart"}
    assert [cell.strip() for cell in line.split("|")][3] == words[EFFECTS[key]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_headings_that_are_there(page: Path) -> None:
    """After a heading is renamed or moved, this test fails until its links are corrected."""
    for target, _, anchor in re.findall(r"\]\(((?!https?:)[^)#]*)(#([^)]*))?\)", page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    """A page that the README does not name would be found by nobody."""
    linked = set(re.findall(r"\]\((docs/[a-z-]+\.md)", (ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} == linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_are_there(page: Path) -> None:
    """Examples and tables name only commands that exist."""
    (adding,) = [each for each in parser()._actions if each.choices]
    code = "\n".join(re.findall(r"`[^`\n]*`|^    .*$", page.read_text(), re.MULTILINE))
    assert set(COMMAND.findall(code)) <= set(adding.choices or ())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_can_be_typed_as_they_stand(page: Path) -> None:
    """The program understands the arguments of each example, apart from those with placeholders."""
    typed = re.findall(r"^(?:.*[ /])?peruserd ([a-z].*)$", "\n".join(examples(page)), re.MULTILINE)
    for each in typed:
        if not re.search(r"[\[(…]", each):
            parser().parse_args(shlex.split(re.split(" [>|] ", each)[0], comments=True))


def test_the_tests_that_show_a_defence_are_there() -> None:
    """Each defence names files of tests, by path or by name, and in quotes words of a test's name in them."""
    files = {file.relative_to(ROOT).as_posix(): file for file in (ROOT / "tests").rglob("test_*.py")}
    shown = [line.split(" | ")[-1] for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")]
    for cell in shown[1:]:
        cited = re.findall(r"`([\w/]+\.py)`", cell)
        found = [[path for path in files if path == each or path.endswith(f"/{each}")] for each in cited]
        assert found, cell
        assert all(found), cell
        source = "".join(files[path].read_text() for paths in found for path in paths)
        for words in re.findall(r'"([^"]+)"', cell):
            assert re.search("def test_[a-z0-9_]*" + words.strip("…").replace(" ", "_"), source), words


def test_the_page_of_the_status_names_each_field() -> None:
    """A program is written by this page."""
    named = re.findall(r"`(\w+)`", "\n".join(row[0] for row in rows("status-page.md")))
    assert {field.name for field in msgspec.structs.fields(Status)} <= set(named)
