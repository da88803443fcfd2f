"""A crowd of sign-ups: a newcomer behind it is served soon, and the crowd is hardly delayed by newcomers."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peruserd.core.common.names import user_document_id
from peruserd.core.feed import intake as intake_module
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import SavedProgress
from peruserd.core.feed.rows import Leaf, Page, Row
from peruserd.core.scheduling.crowd import NEW_SECONDS, NEWEST_FRACTION
from tests.listener.states import ALREADY, MADE, SETTLED, Feed, listening

SHARES = [1, 2, 5, 8, 16]

SERVICE_SECONDS = 0.5
"""The time to serve one user in these tests."""


class SimulatedWorkers:
    """A listener whose workers all take the same time; `served` has the documents in the order of their ends."""

    def __init__(self, share: int, new_per_minute: int = 0, saved: SavedProgress = SETTLED) -> None:
        self.feed = Feed(listening(share=share, new_per_minute=new_per_minute, saved=saved))
        self.share = share
        self.now = 0.0
        self.served: list[str] = []
        self.working: list[Change] = []
        self.names = 0

    def sign_up(self, count: int) -> list[str]:
        """Let users sign up; return their documents."""
        names = [f"user-{number:05d}" for number in range(self.names, self.names + count)]
        self.names += count
        self.feed.enter(*names, now=self.now)
        return [user_document_id(each) for each in names]

    def fill(self) -> None:
        """Give the workers all available changes."""
        while (change := self.feed.state.dispatch.next(self.now)) is not None:
            self.working.append(change)

    def step(self) -> Change | None:
        """Give the workers all available changes, and end the work that has lasted longest."""
        state = self.feed.state
        state.queue_due(self.now)
        self.fill()
        self.now += SERVICE_SECONDS / max(1, len(self.working))
        if not self.working:
            return None
        ended = self.working.pop(0)
        state.succeeded(ended, MADE, self.now)
        self.served.append(ended.document_id)
        return ended

    def serve_until(self, document_id: str) -> int:
        """Serve until this user was; return how many others were served meanwhile."""
        before = len(self.served)
        while document_id not in self.served[before:]:
            assert self.step() is not None, "a user waits for ever"
        return len(self.served) - before - 1

    def serve_all(self) -> None:
        """Serve everybody."""
        while self.step() is not None:
            pass


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("waited", [0.0, 10 * NEW_SECONDS], ids=["just-come", "waiting-long"])
def test_who_comes_behind_a_crowd_waits_for_what_is_in_flight(share: int, waited: float) -> None:
    """Only a few more than the share are served before the newcomer, not the hundreds who came earlier."""
    workers = SimulatedWorkers(share)
    workers.sign_up(500)
    for _ in range(3 * share):
        workers.step()
    workers.now += waited
    (newcomer,) = workers.sign_up(1)
    assert workers.serve_until(newcomer) <= max(2 * share, 4)


@pytest.mark.parametrize("share", [4, 8, 16])
def test_who_comes_behind_a_crowd_need_not_wait_until_somebody_is_served(share: int) -> None:
    """A place is kept free for newcomers; it is not for the crowd, a scan, or a look without hurry."""
    workers = SimulatedWorkers(share)
    workers.sign_up(500)
    for _ in range(3 * share):
        workers.step()
    workers.now += 2 * NEW_SECONDS
    workers.fill()
    workers.feed.state.look([user_document_id("somebody")], Lane.OPERATOR, workers.now)
    while workers.feed.state.dispatch._crowd.newest:
        workers.step()
    workers.fill()
    assert len(workers.working) == share - share // NEWEST_FRACTION
    newcomers = workers.sign_up(share // NEWEST_FRACTION)
    workers.fill()
    assert {each.document_id for each in workers.working} > set(newcomers)
    assert len(workers.working) == share


@pytest.mark.parametrize("share", SHARES)
def test_the_last_of_a_crowd_waits_for_the_newcomers_alone(share: int) -> None:
    """Each newcomer delays the crowd by the time of one user, and no more."""
    workers = SimulatedWorkers(share)
    crowd = set(workers.sign_up(400))
    newcomers = 0
    while not crowd.issubset(workers.served):
        if workers.step() is not None and len(workers.served) % 40 == 0:
            newcomers += len(workers.sign_up(1))
    assert len(workers.served) <= 400 + newcomers
    assert newcomers <= 11


def test_a_crowd_that_waits_is_served_in_its_order() -> None:
    """Only users who have just come are served out of turn, so that a crash repeats little."""
    workers = SimulatedWorkers(8)
    workers.sign_up(4_000)
    workers.serve_all()
    new = int(NEW_SECONDS * 8 / SERVICE_SECONDS)
    out_of_turn = [each for each in workers.served[:new] if each >= user_document_id("user-03000")]
    assert 0 < len(out_of_turn) <= new / NEWEST_FRACTION + 1
    rest = workers.served[new + 8 :]
    assert rest == sorted(rest)


@pytest.mark.parametrize("share", SHARES)
def test_sign_ups_without_end_do_not_starve_who_waits(share: int) -> None:
    """Twice as many users sign up as can be served. The waiting ones still have three turns of four."""
    workers = SimulatedWorkers(share)
    waiting = workers.sign_up(300)
    while not set(waiting).issubset(workers.served):
        workers.sign_up(2)
        assert workers.step() is not None
    assert len(workers.served) <= 300 * 4 / 3 + 2 * share + 4
    ranks = {each: rank for rank, each in enumerate(workers.served)}
    assert all(ranks[each] <= place * 4 / 3 + 2 * share + 4 for place, each in enumerate(waiting))


def test_a_burst_behind_a_crowd_is_served_last_first_while_it_is_new() -> None:
    """A school class that signs up within a crowd is served by the places kept for newcomers."""
    workers = SimulatedWorkers(16)
    workers.sign_up(5_000)
    for _ in range(1_000):
        workers.step()
    before = workers.now
    burst = workers.sign_up(60)
    while not set(burst).issubset(workers.served):
        assert workers.step() is not None
    assert workers.now - before <= NEW_SECONDS


@settings(max_examples=60, deadline=None)
@given(
    share=st.integers(1, 9),
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.sampled_from([0.0, 1.0, 20.0])), max_size=40),
)
def test_everybody_is_served_once_in_any_course(share: int, steps: list[tuple[int, int, float]]) -> None:
    """For any times of sign-ups and any speed of work, each user is served once, and the checkpoint reaches the end."""
    workers = SimulatedWorkers(share)
    for arrivals, ends, seconds in steps:
        if arrivals:
            workers.sign_up(arrivals)
        workers.now += seconds
        for _ in range(ends):
            workers.step()
    workers.serve_all()
    assert Counter(workers.served) == Counter(user_document_id(f"user-{each:05d}") for each in range(workers.names))
    assert workers.feed.state.report().checkpoint == workers.feed.seq
    assert not workers.feed.state.dispatch._crowd.newest


def test_a_newcomer_has_a_part_of_the_new_databases_of_a_minute() -> None:
    """With a limit on new databases a newcomer does not wait for a crowd's hours either, and the limit holds."""
    workers = SimulatedWorkers(4, new_per_minute=8)
    crowd = workers.sign_up(400)
    for _ in range(20):
        workers.step()
    (newcomer,) = workers.sign_up(1)
    assert workers.step() is None
    served = len(workers.served)
    workers.now = 70.0
    assert workers.serve_until(newcomer) <= 8
    assert len(workers.served) <= served + 9
    oldest = [each for each in workers.served if each in crowd[:100]]
    assert oldest == crowd[: len(oldest)]


# A crash


def restarted(workers: SimulatedWorkers) -> tuple[SimulatedWorkers, list[str]]:
    """Return a listener after a restart at the checkpoint, and the served users whom it reads again."""
    progress = workers.feed.state.intake.progress
    assert progress is not None
    assert isinstance(progress.checkpoint, int)
    names = [f"user-{number:05d}" for number in range(progress.checkpoint, workers.names)]
    again = SimulatedWorkers(workers.share, saved=progress)
    again.feed.seq = progress.checkpoint
    again.names = workers.names
    again.now = workers.now
    again.feed.enter(*names, now=workers.now)
    done = set(workers.served)
    return again, [user_document_id(each) for each in names if user_document_id(each) in done]


@pytest.mark.parametrize("share", SHARES)
def test_a_crash_amidst_sign_ups_without_end_repeats_a_third_at_most(share: int) -> None:
    """At any moment a crash repeats at most one user for three before the checkpoint, besides those in flight."""
    workers = SimulatedWorkers(share)
    workers.sign_up(200)
    for number in range(600):
        workers.sign_up(2)
        workers.step()
        if number % 50 == 0:
            _, repeated = restarted(workers)
            passed = len(workers.served) - len(repeated)
            assert len(repeated) <= passed / 3 + 2 * share + 2


def test_a_crash_amidst_a_crowd_repeats_who_came_amidst_it() -> None:
    """The crowd has waited long by then, so only newcomers were served behind the checkpoint."""
    workers = SimulatedWorkers(8)
    workers.sign_up(4_000)
    workers.now = NEW_SECONDS + 1.0
    newcomers = 0
    for number in range(2_000):
        workers.step()
        if number % 100 == 0:
            newcomers += len(workers.sign_up(1))
    again, repeated = restarted(workers)
    assert len(repeated) <= newcomers + 8
    assert not again.feed.state.intake.has_caught_up
    (newcomer,) = again.sign_up(1)
    assert again.serve_until(newcomer) <= 2 * 8
    again.serve_all()
    assert set(again.served) | set(workers.served) >= {user_document_id(f"user-{each:05d}") for each in range(4_000)}


def test_a_listener_has_caught_up_when_all_of_a_backlog_is_done() -> None:
    """This holds also if the newest of the crowd are served first: only users who were there before count."""
    workers = SimulatedWorkers(4)
    backlog = set(workers.sign_up(100))
    assert not workers.feed.state.intake.has_caught_up
    while not backlog.issubset(workers.served):
        assert not workers.feed.state.intake.has_caught_up
        workers.step()
        workers.sign_up(1)
    assert workers.feed.state.intake.has_caught_up


# Memory


def test_a_page_is_read_while_there_is_room_for_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users choose the length of their names, up to a limit. So the waiting bytes are limited, not only the rows."""
    monkeypatch.setattr(intake_module, "_TEXT_WINDOW", 4_000)
    state = listening()
    rows = [Row(each, user_document_id(f"{each:100}"), changes=(Leaf("1-" + "a" * 32),)) for each in range(1, 100)]
    while state.live_has_room:
        row = rows.pop(0)
        state.enter_live(Page([row], row.seq), 0.0)
    # Each record has its own id, and the id and revision of the row before it.
    assert 4_000 // (2 * (49 + 117) + 49 + 34) <= 99 - len(rows) <= 4_000 // (2 * (49 + 117) + 49 + 34) + 2
    while (change := state.dispatch.next(0.0)) is not None:
        state.succeeded(change, ALREADY, 0.0)
    assert state.live_has_room
    assert state.intake.live is not None
    assert state.intake.live.size == 0


def test_a_revision_of_any_length_is_not_kept() -> None:
    """A writer may choose a revision of megabytes. An earlier row then proves the checkpoint; the user is served."""
    state = listening()
    ordinary, forged = Leaf("1-" + "a" * 32), Leaf("1-" + "a" * 1_000_000)
    rows = [Row(seq, user_document_id(f"u{seq}"), changes=(forged if seq > 1 else ordinary,)) for seq in range(1, 50)]
    state.enter_live(Page(rows, rows[-1].seq), 0.0)
    assert state.intake.live is not None
    assert state.intake.live.size < 50_000
    while (change := state.dispatch.next(0.0)) is not None:
        state.succeeded(change, MADE, 0.0)
    assert state.counters.databases_created == 49
    progress = state.intake.progress
    assert progress is not None
    assert (progress.checkpoint, progress.last_row) == (49, rows[0])


def test_a_crowd_is_read_to_its_end() -> None:
    """A newcomer behind tens of thousands is seen, because some room for reading is always kept."""
    workers = SimulatedWorkers(8)
    for _ in range(49):
        workers.sign_up(1_000)
    assert workers.feed.state.live_has_room
    (newcomer,) = workers.sign_up(1)
    assert workers.serve_until(newcomer) <= 16
    workers.sign_up(1_100)
    assert not workers.feed.state.live_has_room


class SleepingWorkers:
    """The workers of a listener: they sleep until they are woken, and each one that ends its work comes for more."""

    def __init__(self, share: int) -> None:
        self.workers = SimulatedWorkers(share)
        self.asleep = share
        self.working: list[Change] = []

    def wake(self, count: int) -> None:
        """Wake up to so many sleepers; each one that finds work says how many more should be woken."""
        dispatch = self.workers.feed.state.dispatch
        woken = min(count, self.asleep)
        self.asleep -= woken
        while woken:
            woken -= 1
            if (change := dispatch.next(self.workers.now)) is None:
                self.asleep += 1
                continue
            self.working.append(change)
            more = min(dispatch.to_wake(self.workers.now), self.asleep)
            self.asleep -= more
            woken += more

    def end_one(self, place: int = 0) -> None:
        """End the work at a place, by default the oldest, and let its worker come for more."""
        self.workers.feed.state.succeeded(self.working.pop(place), MADE, self.workers.now)
        self.asleep += 1
        self.wake(1)


@pytest.mark.parametrize("share", [4, 8, 48])
def test_all_workers_help_with_the_end_of_a_crowd(share: int) -> None:
    """The places for newcomers are used by others while nobody else waits."""
    sleepers = SleepingWorkers(share)
    sleepers.workers.sign_up(5 * share)
    sleepers.workers.now += NEW_SECONDS + 1.0
    sleepers.wake(5 * share)
    documents = sleepers.workers.feed.state.documents
    assert len(sleepers.working) == share - share // NEWEST_FRACTION
    while documents.waiting > share + 1:
        sleepers.end_one()
        assert len(sleepers.working) == share - share // NEWEST_FRACTION
    # The next one is the last of the crowd: then as many wait as there are places.
    sleepers.end_one()
    assert documents.waiting == share - share // NEWEST_FRACTION
    assert len(sleepers.working) == share


def test_places_are_kept_again_for_newcomers_when_another_crowd_comes() -> None:
    """The end of the first crowd has left no trace."""
    sleepers = SleepingWorkers(8)
    for _ in range(2):
        sleepers.workers.sign_up(40)
        sleepers.workers.now += NEW_SECONDS + 1.0
        sleepers.wake(40)
        assert len(sleepers.working) == 6
        while sleepers.working:
            sleepers.end_one()


@settings(max_examples=60)
@given(share=st.sampled_from([4, 8, 12]), data=st.data())
def test_no_worker_sleeps_who_could_serve_a_newcomer_beside_a_crowd(share: int, data: st.DataObject) -> None:
    """A worker that ends takes one user, but a place of the crowd and one for newcomers can be free together."""
    sleepers = SleepingWorkers(share)
    sleepers.workers.sign_up(10 * share)
    sleepers.workers.now += NEW_SECONDS + 1.0
    sleepers.wake(10 * share)
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            sleepers.workers.sign_up(1)
            sleepers.wake(1)
        elif sleepers.working:
            sleepers.end_one(data.draw(st.integers(0, len(sleepers.working) - 1)))
        at_work = len(sleepers.working)
        sleepers.wake(1)
        assert len(sleepers.working) == at_work
