import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.log_values import STEPS, Limits, bounded, one_line

LIMITS = Limits(characters=8, items=4, depth=2)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
    max_leaves=40,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("12345678", "12345678"),
        ("123456789", "12345678… (9 characters)"),
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 6], [1, 2, "… 2 more", 5, 6]),
        ({1, 2}, [1, 2]),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, {"a": 1, "b": 2, "c": 3, "d": 4, "…": "1 more"}),
        ([[["deep"]]], [["['deep']"]]),
        (b"abc", "b'abc'"),
        (None, None),
        (True, True),
        (1.5, 1.5),
    ],
)
def test_a_value_is_cut_to_its_limits_and_what_is_missing_is_counted(value: object, shown: object) -> None:
    """The beginning and the end of a list are kept, as of a traceback, and of a text the beginning."""
    assert bounded(value, LIMITS) == shown


@given(VALUES)
def test_any_value_becomes_one_that_json_can_hold(value: object) -> None:
    """Whatever a caller gives to the log, a line comes of it, and with the least limits a short one."""
    for limits in STEPS:
        assert "\n" not in json.dumps(bounded(value, limits))


@given(VALUES)
def test_a_value_for_people_is_one_line_without_anything_that_steers_a_terminal(value: object) -> None:
    """That holds for keys and nested texts as well."""
    shown = json.dumps(one_line(bounded(value, STEPS[0])), ensure_ascii=False)
    assert not {unicodedata.category(each) for each in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}, shown
