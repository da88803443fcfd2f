"""The sizes of the batches of a survey."""

import pytest

from peruserd.cli.survey import _BATCH, _LEAST_BATCH, _batch_size


@pytest.mark.parametrize("threads", [1, 4, 16])
@pytest.mark.parametrize("users", [0, 1, 9, 40, 150, 999, 20_000])
def test_each_thread_has_work_and_no_part_is_tiny(users: int, threads: int) -> None:
    """A small round is not left to one thread, and a large one does not make a request for each few users."""
    size = _batch_size(users, threads)
    assert _LEAST_BATCH <= size <= _BATCH
    assert size == _LEAST_BATCH or users >= threads * size
