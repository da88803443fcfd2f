import pytest
from hypothesis import given
from hypothesis import strategies as st

from peruserd.core.scheduling import restless as restless_module
from peruserd.core.scheduling.restless import MAX_CHANGES, REST_SECONDS, WITHIN_SECONDS, Restless


def flip(restless: Restless, times: int, *, now: float = 0.0, every: float = 1.0, document_id: str = "ann") -> float:
    """Let a document be deleted and made again so many times; return when it was the last time."""
    for count in range(times):
        now += every
        restless.note(document_id, deleted=count % 2 == 0, now=now)
    return now


def test_a_document_that_comes_and_goes_all_the_time_rests() -> None:
    """From the sixth change on it is left alone until a minute after it was looked at last."""
    restless = Restless()
    now = flip(restless, MAX_CHANGES)
    restless.looked_at("ann", now)
    assert restless.rests_until("ann", now) is None
    restless.note("ann", deleted=True, now=now + 1.0)
    assert restless.rests_until("ann", now + 1.0) == now + REST_SECONDS
    assert restless.rests_until("ann", now + REST_SECONDS) is None
    restless.looked_at("ann", now + REST_SECONDS)
    assert restless.rests_until("ann", now + REST_SECONDS) == now + 2 * REST_SECONDS
    assert restless.rests_until("bob", now) is None


def test_changes_of_long_ago_do_not_count() -> None:
    """Five changes in ten minutes, every ten minutes, are nothing special."""
    restless = Restless()
    now = flip(restless, 100, every=WITHIN_SECONDS / 5 + 0.1)
    restless.looked_at("ann", now)
    assert restless.rests_until("ann", now) is None


def test_a_restless_document_comes_to_rest() -> None:
    """Ten minutes after the changes have ended it is a document like all others."""
    restless = Restless()
    now = flip(restless, 100)
    restless.looked_at("ann", now + WITHIN_SECONDS)
    assert restless.rests_until("ann", now + WITHIN_SECONDS) is None


def test_two_tombstones_in_a_row_are_two_changes() -> None:
    """The feed lists only the newest change, so what came between the two was not seen."""
    restless = Restless()
    for now in (1.0, 2.0, 3.0):
        restless.note("ann", deleted=True, now=now)
    restless.looked_at("ann", 3.0)
    assert restless.rests_until("ann", 3.0) is None
    restless.note("ann", deleted=True, now=4.0)
    assert restless.rests_until("ann", 4.0) is not None


def test_changes_of_a_document_that_stays_are_none() -> None:
    """A user who changes a password a hundred times is looked at a hundred times; nothing is remembered of it."""
    restless = Restless()
    for now in range(100):
        restless.note("ann", deleted=False, now=float(now))
    assert len(restless.watched) == 0
    restless.note("ann", deleted=True, now=100.0)
    for now in range(101, 200):
        restless.note("ann", deleted=False, now=float(now))
    restless.looked_at("ann", 200.0)
    assert restless.rests_until("ann", 200.0) is None


def test_a_database_that_somebody_deletes_again_and_again_makes_its_user_restless() -> None:
    """A database is created again at once three times in a row. After that it rests for a minute each time."""
    restless = Restless()
    assert [restless.remade("ann", now) for now in (4.0, 8.0, 12.0, 16.0)] == [False, False, True, True]
    restless.looked_at("ann", 16.0)
    assert restless.rests_until("ann", 17.0) == 16.0 + REST_SECONDS
    assert restless.rests_until("bob", 17.0) is None
    # The last one long ago is one like the first.
    assert not restless.remade("ann", 16.0 + WITHIN_SECONDS + 0.1)


def test_no_more_databases_are_watched_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds, however many documents somebody deletes at once."""
    monkeypatch.setattr(restless_module, "_MAX_WATCHED", 100)
    restless = Restless()
    for number in range(1_000):
        restless.remade(f"user-{number}", number / 100)
    assert len(restless.watched) == 100


def test_no_more_are_watched_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of watched documents is bounded. A user who goes on changing stays among them."""
    monkeypatch.setattr(restless_module, "_MAX_WATCHED", 100)
    restless = Restless()
    for number in range(1_000):
        restless.note(f"user-{number}", deleted=True, now=number / 100)
        restless.note("ann", deleted=number % 2 == 0, now=number / 100)
    assert len(restless.watched) == 100
    restless.looked_at("ann", 10.0)
    assert restless.rests_until("ann", 10.0) is not None


def test_what_changed_long_ago_is_forgotten() -> None:
    """The next tombstone takes the place of all that came to rest."""
    restless = Restless()
    for number in range(100):
        restless.note(f"user-{number}", deleted=True, now=0.0)
    restless.note("ann", deleted=True, now=WITHIN_SECONDS + 1.0)
    assert len(restless.watched) == 1


@given(st.lists(st.tuples(st.floats(0.01, 100.0), st.booleans()), max_size=200))
def test_a_document_is_looked_at_no_more_than_five_times_and_once_a_minute(steps: list[tuple[float, bool]]) -> None:
    """A document is looked at, in any ten minutes, no more than changes and minutes allow, however its rows come."""
    restless = Restless()
    now = 0.0
    looks: list[float] = []
    changes: list[float] = []
    last = False
    for pause, deleted in steps:
        now += pause
        restless.note("ann", deleted=deleted, now=now)
        if deleted != last:
            changes.append(now)
        last = deleted
        if restless.rests_until("ann", now) is None and (not looks or (changes and changes[-1] > looks[-1])):
            looks.append(now)
            restless.looked_at("ann", now)
    for begin in looks:
        within = [each for each in looks if begin <= each < begin + WITHIN_SECONDS]
        assert len(within) <= MAX_CHANGES + 1 + WITHIN_SECONDS / REST_SECONDS
