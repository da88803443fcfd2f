"""A crowd: who signs up behind it is served soon, and it is served nearly as if nobody had come."""

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
from peruserd.core.work.crowd import NEW_SECONDS, NEWEST_FRACTION
from tests.listener.states import ALREADY, MADE, SETTLED, Feed, listening

SHARES = [1, 2, 5, 8, 16]

SERVICE_SECONDS = 0.5
"""How long it takes in these tests to serve a user."""


class Rush:
    """A listener with workers for its whole share, each of whom takes as long; `served` are in their order."""

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
        """Let the workers have what there is."""
        while (change := self.feed.state.dispatch.next(self.now)) is not None:
            self.working.append(change)

    def step(self) -> Change | None:
        """Let the workers have what there is, and let the one end who has worked longest."""
        state = self.feed.state
        state.due(self.now)
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
    """Some more than are worked on at once are served before, and not the hundreds who came before."""
    rush = Rush(share)
    rush.sign_up(500)
    for _ in range(3 * share):
        rush.step()
    rush.now += waited
    (newcomer,) = rush.sign_up(1)
    assert rush.serve_until(newcomer) <= max(2 * share, 4)


@pytest.mark.parametrize("share", [4, 8, 16])
def test_who_comes_behind_a_crowd_need_not_wait_until_somebody_is_served(share: int) -> None:
    """A place is free for a newcomer, and for nobody of the crowd, of a scan or of a look without hurry."""
    rush = Rush(share)
    rush.sign_up(500)
    for _ in range(3 * share):
        rush.step()
    rush.now += 2 * NEW_SECONDS
    rush.fill()
    rush.feed.state.look([user_document_id("somebody")], Lane.OPERATOR, rush.now)
    while rush.feed.state.dispatch._crowd.newest:
        rush.step()
    rush.fill()
    assert len(rush.working) == share - share // NEWEST_FRACTION
    newcomers = rush.sign_up(share // NEWEST_FRACTION)
    rush.fill()
    assert {each.document_id for each in rush.working} > set(newcomers)
    assert len(rush.working) == share


@pytest.mark.parametrize("share", SHARES)
def test_the_last_of_a_crowd_waits_for_the_newcomers_alone(share: int) -> None:
    """Single users amidst the crowd cost it the time of as many users, and no more."""
    rush = Rush(share)
    crowd = set(rush.sign_up(400))
    newcomers = 0
    while not crowd.issubset(rush.served):
        if rush.step() is not None and len(rush.served) % 40 == 0:
            newcomers += len(rush.sign_up(1))
    assert len(rush.served) <= 400 + newcomers
    assert newcomers <= 11


def test_a_crowd_that_waits_is_served_in_its_order() -> None:
    """Out of their turn are only those who have just come, so that a crash repeats little."""
    rush = Rush(8)
    rush.sign_up(4_000)
    rush.serve_all()
    new = int(NEW_SECONDS * 8 / SERVICE_SECONDS)
    out_of_turn = [each for each in rush.served[:new] if each >= user_document_id("user-03000")]
    assert 0 < len(out_of_turn) <= new / NEWEST_FRACTION + 1
    rest = rush.served[new + 8 :]
    assert rest == sorted(rest)


@pytest.mark.parametrize("share", SHARES)
def test_sign_ups_without_end_do_not_starve_who_waits(share: int) -> None:
    """Twice as many sign up as can be served: those who wait have three turns of four all the time."""
    rush = Rush(share)
    waiting = rush.sign_up(300)
    while not set(waiting).issubset(rush.served):
        rush.sign_up(2)
        assert rush.step() is not None
    assert len(rush.served) <= 300 * 4 / 3 + 2 * share + 4
    ranks = {each: rank for rank, each in enumerate(rush.served)}
    assert all(ranks[each] <= place * 4 / 3 + 2 * share + 4 for place, each in enumerate(waiting))


def test_a_burst_behind_a_crowd_is_served_last_first_while_it_is_new() -> None:
    """All of a school class who sign up amidst a crowd are served by the part that is there for them."""
    rush = Rush(16)
    rush.sign_up(5_000)
    for _ in range(1_000):
        rush.step()
    before = rush.now
    burst = rush.sign_up(60)
    while not set(burst).issubset(rush.served):
        assert rush.step() is not None
    assert rush.now - before <= NEW_SECONDS


@settings(max_examples=60, deadline=None)
@given(
    share=st.integers(1, 9),
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.sampled_from([0.0, 1.0, 20.0])), max_size=40),
)
def test_everybody_is_served_once_in_any_course(share: int, steps: list[tuple[int, int, float]]) -> None:
    """Whoever comes when, and however fast work ends: each is served once, and the checkpoint comes to the end."""
    rush = Rush(share)
    for arrivals, ends, seconds in steps:
        if arrivals:
            rush.sign_up(arrivals)
        rush.now += seconds
        for _ in range(ends):
            rush.step()
    rush.serve_all()
    assert Counter(rush.served) == Counter(user_document_id(f"user-{each:05d}") for each in range(rush.names))
    assert rush.feed.state.report().checkpoint == rush.feed.seq
    assert not rush.feed.state.dispatch._crowd.newest


def test_a_newcomer_has_a_part_of_the_new_databases_of_a_minute() -> None:
    """With a limit on new databases a newcomer does not wait for a crowd's hours either, and the limit holds."""
    rush = Rush(4, new_per_minute=8)
    crowd = rush.sign_up(400)
    for _ in range(20):
        rush.step()
    (newcomer,) = rush.sign_up(1)
    assert rush.step() is None
    served = len(rush.served)
    rush.now = 70.0
    assert rush.serve_until(newcomer) <= 8
    assert len(rush.served) <= served + 9
    oldest = [each for each in rush.served if each in crowd[:100]]
    assert oldest == crowd[: len(oldest)]


# A crash


def restarted(rush: Rush) -> tuple[Rush, list[str]]:
    """Return a listener that begins at the checkpoint, after it has read again; and whom it reads of those served."""
    progress = rush.feed.state.intake.progress
    assert progress is not None
    assert isinstance(progress.checkpoint, int)
    names = [f"user-{number:05d}" for number in range(progress.checkpoint, rush.names)]
    again = Rush(rush.share, saved=progress)
    again.feed.seq = progress.checkpoint
    again.names = rush.names
    again.now = rush.now
    again.feed.enter(*names, now=rush.now)
    done = set(rush.served)
    return again, [user_document_id(each) for each in names if user_document_id(each) in done]


@pytest.mark.parametrize("share", SHARES)
def test_a_crash_amidst_sign_ups_without_end_repeats_a_third_at_most(share: int) -> None:
    """Whenever it happens: for three that the checkpoint has passed there is one behind it, and what was in flight."""
    rush = Rush(share)
    rush.sign_up(200)
    for number in range(600):
        rush.sign_up(2)
        rush.step()
        if number % 50 == 0:
            _, repeated = restarted(rush)
            passed = len(rush.served) - len(repeated)
            assert len(repeated) <= passed / 3 + 2 * share + 2


def test_a_crash_amidst_a_crowd_repeats_who_came_amidst_it() -> None:
    """Those of the crowd wait long by then, so the newcomers are all that was done behind the checkpoint."""
    rush = Rush(8)
    rush.sign_up(4_000)
    rush.now = NEW_SECONDS + 1.0
    newcomers = 0
    for number in range(2_000):
        rush.step()
        if number % 100 == 0:
            newcomers += len(rush.sign_up(1))
    again, repeated = restarted(rush)
    assert len(repeated) <= newcomers + 8
    assert not again.feed.state.intake.has_caught_up
    (newcomer,) = again.sign_up(1)
    assert again.serve_until(newcomer) <= 2 * 8
    again.serve_all()
    assert set(again.served) | set(rush.served) >= {user_document_id(f"user-{each:05d}") for each in range(4_000)}


def test_a_listener_has_caught_up_when_all_of_a_backlog_is_done() -> None:
    """Also where the newest of it are served first: those who were there before count, and not who comes later."""
    rush = Rush(4)
    backlog = set(rush.sign_up(100))
    assert not rush.feed.state.intake.has_caught_up
    while not backlog.issubset(rush.served):
        assert not rush.feed.state.intake.has_caught_up
        rush.step()
        rush.sign_up(1)
    assert rush.feed.state.intake.has_caught_up


# Memory


def test_a_page_is_read_while_there_is_room_for_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are as long as their users like, up to a limit: so many bytes of them wait, however few the rows are."""
    monkeypatch.setattr(intake_module, "_TEXT_WINDOW", 4_000)
    state = listening()
    rows = [Row(each, user_document_id(f"{each:100}"), changes=(Leaf("1-" + "a" * 32),)) for each in range(1, 100)]
    while state.live_has_room:
        row = rows.pop(0)
        state.enter_live(Page([row], row.seq), 0.0)
    # Each has its own id, and keeps the id and the revision of the row before it.
    assert 4_000 // (2 * (49 + 117) + 49 + 34) <= 99 - len(rows) <= 4_000 // (2 * (49 + 117) + 49 + 34) + 2
    while (change := state.dispatch.next(0.0)) is not None:
        state.succeeded(change, ALREADY, 0.0)
    assert state.live_has_room
    assert state.intake._live is not None
    assert state.intake._live.size == 0


def test_a_revision_of_any_length_is_not_kept() -> None:
    """A writer may choose it, up to megabytes: an earlier row proves the checkpoint then, and the user is served."""
    state = listening()
    ordinary, forged = Leaf("1-" + "a" * 32), Leaf("1-" + "a" * 1_000_000)
    rows = [Row(seq, user_document_id(f"u{seq}"), changes=(forged if seq > 1 else ordinary,)) for seq in range(1, 50)]
    state.enter_live(Page(rows, rows[-1].seq), 0.0)
    assert state.intake._live is not None
    assert state.intake._live.size < 50_000
    while (change := state.dispatch.next(0.0)) is not None:
        state.succeeded(change, MADE, 0.0)
    assert state.counters.databases_created == 49
    progress = state.intake.progress
    assert progress is not None
    assert (progress.checkpoint, progress.last_row) == (49, rows[0])


def test_a_crowd_is_read_to_its_end() -> None:
    """Who comes behind tens of thousands is seen, because room is left for them to be read."""
    rush = Rush(8)
    for _ in range(49):
        rush.sign_up(1_000)
    assert rush.feed.state.live_has_room
    (newcomer,) = rush.sign_up(1)
    assert rush.serve_until(newcomer) <= 16
    rush.sign_up(1_100)
    assert not rush.feed.state.live_has_room


class Crew:
    """The workers of a listener, who sleep until they are woken; each one who ends comes for more."""

    def __init__(self, share: int) -> None:
        self.rush = Rush(share)
        self.asleep = share
        self.working: list[Change] = []

    def wake(self, count: int) -> None:
        """Wake so many, if they sleep; each who finds work says how many more are to be woken."""
        dispatch = self.rush.feed.state.dispatch
        woken = min(count, self.asleep)
        self.asleep -= woken
        while woken:
            woken -= 1
            if (change := dispatch.next(self.rush.now)) is None:
                self.asleep += 1
                continue
            self.working.append(change)
            more = min(dispatch.to_wake(self.rush.now), self.asleep)
            self.asleep -= more
            woken += more

    def end_one(self, place: int = 0) -> None:
        """Let one end, who has worked longest where none is named, and come for more."""
        self.rush.feed.state.succeeded(self.working.pop(place), MADE, self.rush.now)
        self.asleep += 1
        self.wake(1)


@pytest.mark.parametrize("share", [4, 8, 48])
def test_all_workers_help_with_the_end_of_a_crowd(share: int) -> None:
    """The places that are kept for newcomers wait for nobody, once nobody else waits."""
    crew = Crew(share)
    crew.rush.sign_up(5 * share)
    crew.rush.now += NEW_SECONDS + 1.0
    crew.wake(5 * share)
    documents = crew.rush.feed.state.documents
    assert len(crew.working) == share - share // NEWEST_FRACTION
    while documents.waiting > share + 1:
        crew.end_one()
        assert len(crew.working) == share - share // NEWEST_FRACTION
    # The next one is the last of the crowd: so many wait then as there are places.
    crew.end_one()
    assert documents.waiting == share - share // NEWEST_FRACTION
    assert len(crew.working) == share


def test_places_are_kept_again_for_newcomers_when_another_crowd_comes() -> None:
    """Nothing of the end of the first one is left."""
    crew = Crew(8)
    for _ in range(2):
        crew.rush.sign_up(40)
        crew.rush.now += NEW_SECONDS + 1.0
        crew.wake(40)
        assert len(crew.working) == 6
        while crew.working:
            crew.end_one()


@settings(max_examples=60)
@given(share=st.sampled_from([4, 8, 12]), data=st.data())
def test_no_worker_sleeps_who_could_serve_a_newcomer_beside_a_crowd(share: int, data: st.DataObject) -> None:
    """One who ends serves one user, and both a place of the crowd and one that is kept for newcomers can be free."""
    crew = Crew(share)
    crew.rush.sign_up(10 * share)
    crew.rush.now += NEW_SECONDS + 1.0
    crew.wake(10 * share)
    for _ in range(data.draw(st.integers(1, 40))):
        if data.draw(st.booleans()):
            crew.rush.sign_up(1)
            crew.wake(1)
        elif crew.working:
            crew.end_one(data.draw(st.integers(0, len(crew.working) - 1)))
        at_work = len(crew.working)
        crew.wake(1)
        assert len(crew.working) == at_work
