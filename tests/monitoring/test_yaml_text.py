"""YAML as it is written; `promtool` reads it in the tests of the rules."""

import pytest

from peruserd.monitoring.yaml_text import Value, written


def test_maps_and_lists_are_indented() -> None:
    """A list of maps begins with its first key."""
    document: Value = {
        "groups": [{"name": "a", "rules": [{"record": "b", "expr": "1 + 1"}, {"record": "c"}]}],
        "empty": [],
    }
    assert written(document) == (
        'groups:\n  - name: a\n    rules:\n      - record: b\n        expr: "1 + 1"\n      - record: c\nempty: []\n'
    )


@pytest.mark.parametrize("text", ["yes", "No", "on", "null", "1", "1e3", "0x1f", "~", "", "- a", "a: b", "#a", "{a}"])
def test_a_text_that_could_be_something_else_is_quoted(text: str) -> None:
    """YAML takes many words for truth values, numbers or nothing."""
    assert written({"key": text}) == f'key: "{text}"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("plain", "plain"),
        ("job:a_b:rate5m", "job:a_b:rate5m"),
        ("5m", "5m"),
        ('up{job="a"} == 0', "'up{job=\"a\"} == 0'"),
        ('it\'s "both"', '"it\'s \\"both\\""'),
        ("é\x1b", '"é\\u001b"'),
    ],
)
def test_quotes_keep_expressions_readable(text: str, found: str) -> None:
    """Within single quotes nothing is special but a single quote; control characters need double ones."""
    assert written({"key": text}) == f"key: {found}\n"


def test_several_lines_are_a_block() -> None:
    """So a long expression can be read."""
    assert written({"expr": "a\nand\n  b"}) == "expr: |\n  a\n  and\n    b\n"


def test_numbers_are_plain() -> None:
    """A whole number has no point."""
    assert written([1.0, 0.25, 300]) == "- 1\n- 0.25\n- 300\n"
