import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.escaping import argument, calm_json, counted, date, harmless, named, shown, span
from tests.evil_names import EVIL, harmful


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ann", "ann"),
        ("José Ångström 王", "José Ångström 王"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("line\nbreak\r", "line\\x0abreak\\x0d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("\udc80", "\\udc80"),
        ("\U000e0001", "\\U000e0001"),
        ("\u2028", "\\u2028"),
        ("a\\x1b", "a\\\\x1b"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, seen: str) -> None:
    """Control and direction characters are shown as escapes, and ordinary letters of any script as they are."""
    assert shown(text) == seen


@given(st.text(st.characters(categories=None)))
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    """A user can have any name: the printed text has no control character and can be encoded."""
    seen = shown(text)
    assert not any(unicodedata.category(each) in ("Cc", "Cf", "Cs") for each in seen)
    seen.encode("utf-8")


@given(st.text(st.characters(categories=None)), st.text(st.characters(categories=None)))
def test_two_names_never_look_alike_by_an_escape(one: str, other: str) -> None:
    """Nobody can write what looks like another name's escape, because a backslash is doubled."""
    assert (shown(one) == shown(other)) is (one == other)


@given(st.text(st.characters(categories=None)))
def test_words_of_others_are_one_harmless_line(text: str) -> None:
    """A line with names that `shown` has escaped already stays as it is."""
    seen = harmless(text)
    assert not any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in seen)
    assert harmless(seen) == seen
    assert harmless(shown(text)) == shown(text)


@pytest.mark.parametrize(
    ("name", "sentence", "typed"),
    [
        ("ann", "ann", "ann"),
        ("", '""', "''"),
        ("a b", "a b", "'a b'"),
        ("$(reboot)", "$(reboot)", "'$(reboot)'"),
        ("a\x1b", "a\\x1b", "USER"),
        ("--all", "--all", "USER"),
    ],
)
def test_names_can_be_read_in_sentences_and_typed_in_shells(name: str, sentence: str, typed: str) -> None:
    """An empty name is seen, and a name that a shell would take for something else is quoted or left out."""
    assert (named(name), argument(name)) == (sentence, typed)


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (1_000, "1,000 entries")]
)
def test_one_is_singular(number: int, words: str) -> None:
    """Counts are read by people."""
    assert counted(number, "entry", "entries") == words
    assert counted(1, "user") == "1 user"
    assert counted(2, "user") == "2 users"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5.0, "0 s"), (0.4, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (7_200.0, "2 h"), (604_800.0, "7 d")],
)
def test_a_time_that_passes_is_in_the_largest_unit_that_fits_twice(seconds: float, words: str) -> None:
    """A clock that was set back makes no negative time."""
    assert span(seconds) == words


@pytest.mark.parametrize("moment", [1e30, -1e30, float("nan"), float("inf")])
def test_a_moment_that_is_none_can_be_printed(moment: float) -> None:
    """Files and documents can hold any number."""
    assert date(moment) == "at no time"
    assert date(0.0) == "1970-01-01 00:00:00Z"


@given(st.text())
def test_calm_json_says_the_same(text: str) -> None:
    """A reader of JSON gets the same text, and a terminal gets nothing that could steer it."""
    text = text.encode("utf-8", "replace").decode()
    calm = calm_json(msgspec.json.encode({text: [text]}))
    assert msgspec.json.decode(calm) == {text: [text]}
    assert not harmful(calm.decode())


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_evil_texts_are_calm_in_json(text: str) -> None:
    """What can be shown stays as it is."""
    calm = calm_json(msgspec.json.encode(text))
    assert msgspec.json.decode(calm) == text
    assert not harmful(calm.decode())
    assert calm_json('"é片😀"'.encode()) == '"é片😀"'.encode()
