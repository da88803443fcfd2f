"""The turns in a crowd: every sequence of a few steps, by the rules alone."""

from itertools import product

import pytest

from peruserd.core.scheduling.crowd import OLDEST_BETWEEN, Crowd, places


def begin(crowd: Crowd, user: str, share: int, *, newest: bool) -> None:
    """Take a user from the end of the queue, or from its front."""
    if newest:
        crowd.newest_begun(user)
    else:
        crowd.oldest_begun(share)


@pytest.mark.parametrize("share", [1, 2, 7, 8, 9, 16])
def test_the_oldest_have_three_turns_of_four_in_every_course(share: int) -> None:
    """The newest users have the turns that the oldest earned, and no more than their places, however work ends."""
    for course in product([False, True], repeat=11):
        crowd = Crowd()
        newest: list[str] = []
        taken = 0
        for number, ends in enumerate(course):
            is_newest = crowd.newest_may_begin(share)
            assert not is_newest or len(newest) < places(share)
            begin(crowd, str(number), share, newest=is_newest)
            taken += is_newest
            assert taken * OLDEST_BETWEEN <= number + 1 - taken
            newest += [str(number)] if is_newest else []
            if ends and newest:
                crowd.newest.discard(newest.pop(0))


@pytest.mark.parametrize("share", [1, 3, 8, 40])
def test_turns_are_kept_for_a_few_who_come_together_and_for_no_more(share: int) -> None:
    """After hours without anybody new, as many go at once as there are places; then the oldest have their turns."""
    crowd = Crowd()
    for _ in range(1_000):
        crowd.oldest_begun(share)
    for number in range(places(share)):
        assert crowd.newest_may_begin(share)
        crowd.newest_begun(str(number))
    crowd.newest.clear()
    assert not crowd.newest_may_begin(share)


@pytest.mark.parametrize(("share", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (40, 30)])
def test_a_quarter_of_the_places_is_kept_for_who_comes_next(share: int, most: int) -> None:
    """The oldest have the other places, however many of the newest there are; with few places all are theirs."""
    crowd = Crowd()
    assert next(active for active in range(share + 1) if not crowd.oldest_may_begin(share, active)) == most
    crowd.newest.add("somebody")
    assert crowd.oldest_may_begin(share, most)
    assert not crowd.oldest_may_begin(share, most + 1)


def test_the_newest_who_take_long_leave_the_other_places_to_the_oldest() -> None:
    """A quarter of the places is the most that they have; the end of one of them makes room for the next."""
    crowd = Crowd()
    for number in range(100):
        begin(crowd, f"user-{number}", 8, newest=crowd.newest_may_begin(8))
    assert crowd.newest == {"user-3", "user-7"}
    crowd.newest.discard("user-0")
    assert not crowd.newest_may_begin(8)
    crowd.newest.discard("user-3")
    assert crowd.newest_may_begin(8)
