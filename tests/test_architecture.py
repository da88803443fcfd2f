"""The page on the architecture names only files and functions that exist."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
CITED = sorted(set(re.findall(r"`([\w/]+\.py): ([\w.]+)`", PAGE)))
FILES = sorted(set(re.findall(r"`([\w/]+\.py)", PAGE)))


@cache
def defined(path: Path) -> set[str]:
    """Return the functions and classes of a module, and the methods and properties as `Class.name`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef))
    return found


def test_each_file_that_is_named_is_there() -> None:
    """Paths are below the package."""
    assert [file for file in FILES if not (ROOT / "peruserd" / file).is_file()] == []


def test_each_function_that_is_named_is_there() -> None:
    """After a function is renamed or moved, this test fails until the page is corrected."""
    assert [(file, name) for file, name in CITED if name not in defined(ROOT / "peruserd" / file)] == []


def test_the_page_answers_where_each_rule_is() -> None:
    """The table has at least 25 questions, each with a file and a function."""
    table = PAGE.partition("## Where is it?")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and ".py: " in line]
    assert len(rows) >= 25
