import pytest

from peruserd.core.processes.descriptors import needed


@pytest.mark.parametrize(
    ("listeners", "share", "limit"), [(1, 64, 196), (1, 1_024, 1_072), (8, 8, 224), (64, 1, 448), (512, 1, 2_240)]
)
def test_the_largest_need_of_a_process_counts(listeners: int, share: int, limit: int) -> None:
    """With few listeners that is a busy one, and with many it is the supervisor."""
    assert needed(listeners, share) == limit
