"""Whose turn it is in a crowd: every course of a few steps, by the rules alone."""

from itertools import pairwise, product

import pytest

from peruserd.core.crowd import LEAST_PART, OLDEST_BETWEEN, Crowd


def begin(crowd: Crowd, user: str, *, newest: bool) -> None:
    """Take a user from the end of the queue, or from its front."""
    if newest:
        crowd.newest_begun(user)
    else:
        crowd.oldest += 1


@pytest.mark.parametrize("share", [1, 2, 7, 8, 9, 16])
def test_the_oldest_have_three_turns_of_four_in_every_course(share: int) -> None:
    """However work ends and whether a newest one is there: between two of them go three of the oldest at least."""
    for course in product([False, True], repeat=11):
        crowd = Crowd()
        newest: list[str] = []
        taken: list[bool] = []
        for number, ends in enumerate(course):
            is_newest = crowd.newest_may_begin(share)
            assert not is_newest or len(newest) < max(1, share // LEAST_PART)
            begin(crowd, str(number), newest=is_newest)
            taken.append(is_newest)
            newest += [str(number)] if is_newest else []
            if ends and newest:
                crowd.newest.discard(newest.pop(0))
        places = [-1, *(place for place, is_newest in enumerate(taken) if is_newest)]
        assert all(later - earlier > OLDEST_BETWEEN for earlier, later in pairwise(places))


def test_the_newest_who_take_long_leave_the_other_places_to_the_oldest() -> None:
    """A quarter of the places is the most that they have; the end of one of them makes room for the next."""
    crowd = Crowd()
    for number in range(100):
        begin(crowd, f"user-{number}", newest=crowd.newest_may_begin(8))
    assert crowd.newest == {"user-3", "user-7"}
    crowd.newest.discard("user-0")
    assert not crowd.newest_may_begin(8)
    crowd.newest.discard("user-3")
    assert crowd.newest_may_begin(8)
