import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.common.nesting import MAX_LEVELS, is_too_deep, may_be_too_deep

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def nested(levels: int, kind: str) -> object:
    """Return lists, objects or both inside one another, so many levels deep."""
    value: object = 1
    for level in range(levels):
        is_list = kind == "lists" or (kind == "both" and level % 2 == 0)
        value = ["beside", value] if is_list else {"beside": 1, "x": value}
    return value


@pytest.mark.parametrize("kind", ["lists", "objects", "both"])
def test_the_limit_is_allowed_and_one_level_more_is_not(kind: str) -> None:
    """The number of values beside the deep part does not count."""
    assert not is_too_deep(nested(MAX_LEVELS, kind))
    assert is_too_deep(nested(MAX_LEVELS + 1, kind))
    assert is_too_deep([1, {"a": nested(MAX_LEVELS - 1, kind)}, 2, nested(0, kind)])


def test_an_empty_list_at_the_bottom_counts_as_a_level() -> None:
    """It is compared like any other."""
    value: list[object] = []
    for _ in range(MAX_LEVELS):
        value = [value]
    assert may_be_too_deep(json.dumps(value).encode())
    assert is_too_deep(value)
    assert not is_too_deep(value[0])


@given(JSON)
def test_what_has_few_brackets_is_never_too_deep(value: object) -> None:
    """The quick look is on the safe side."""
    text = json.dumps(value).encode()
    assert may_be_too_deep(text) or not is_too_deep(value)
