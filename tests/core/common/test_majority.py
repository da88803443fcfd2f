"""Majorities of copies and nodes."""

from peruserd.core.common.majority import is_majority


def test_a_majority_is_more_than_half() -> None:
    """Half of an even number is none, and of nothing there is none."""
    assert [[count for count in range(total + 1) if is_majority(count, total)] for total in range(5)] == [
        [],
        [1],
        [2],
        [2, 3],
        [3, 4],
    ]


def test_two_majorities_always_share_a_member() -> None:
    """So of two contradicting sides, one at most has a majority."""
    assert not any(
        is_majority(one, total) and is_majority(total - one, total) for total in range(20) for one in range(total + 1)
    )
