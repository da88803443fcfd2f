"""The benchmark `pipeline`: its recordings, its replays and its sums. No test looks at the time that something took."""

import threading
from pathlib import Path

import pytest

from bench.listener import stages
from bench.listener.recording import COPY, ME, OWNERSHIP, Recording, record
from bench.listener.replay import Replay, replay
from bench.listener.server import UUID, RecordedServer, RecordedSession
from bench.pipeline import QUICK, Stage, rates_chart, rates_table, stages_table
from peruserd.core.common.names import database_name
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.rows import PAGE_ROWS, Page
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.users import security
from peruserd.couch.answers import Answer
from peruserd.couch.client import Client, Creation
from peruserd.couch.errors import InterruptedRequestError
from peruserd.couch.sources import ShardSource

USER = "user-0000042"


def _pages(recording: Recording) -> list[Page]:
    return [Answer("GET page", 200, body).decode(Page) for body in recording.pages.values()]


def _client(recording: Recording) -> Client:
    return Client(RecordedServer(recording).open_session())  # type: ignore[arg-type]


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "not-owned"])
def test_a_recording_is_of_one_copy_and_of_one_kind(owned: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Its rows are user documents of the copy's range, each once, in full pages. This instance owns all, or none."""
    recording = record(2 * PAGE_ROWS + 1, owned=owned)
    rows = [row for page in _pages(recording) for row in page.results]
    assert [row.seq for row in rows] == list(range(1, 2 * PAGE_ROWS + 2))
    assert len({row.id for row in rows}) == len(rows)
    assert {OWNERSHIP.owner(row.id) == ME for row in rows} == {owned}
    assert all(document_hash(row.id) in COPY.range and not row.deleted for row in rows)
    assert [page.last_seq for page in _pages(recording)] == [PAGE_ROWS, 2 * PAGE_ROWS, recording.end]
    assert recording == record(2 * PAGE_ROWS + 1, owned=owned)


def test_rows_are_as_long_as_a_servers() -> None:
    """A row of a shard copy of CouchDB 3.5 has 109 bytes, with names of usual length."""
    (body,) = record(PAGE_ROWS, owned=True).pages.values()
    assert len(body) / PAGE_ROWS == pytest.approx(109, abs=3)


def test_the_server_says_that_users_are_right() -> None:
    """Their databases are there, and their security objects need no change. The copy has a name and an end."""
    recording = record(3, owned=True)
    client = _client(recording)
    database = database_name("userdb-", USER)
    assert client.create_database(database, DatabasesConfig()) is Creation.EXISTED
    assert security.grants(client.security(database), USER)
    identity = ShardSource(client, COPY).identify()
    assert (identity.uuid, identity.update_seq) == (UUID, 3)


def test_the_server_refuses_what_no_user_who_is_right_needs() -> None:
    """With a write, or with a request that was not expected, the benchmark would measure something else."""
    with pytest.raises(ValueError, match="PUT"):
        _client(record(3, owned=True)).put_security("userdb-61", {})


def test_the_feed_ends_with_a_long_poll_that_is_interrupted() -> None:
    """Pages come up to the end, and then nothing until the listener wants no more. The server notes each request."""
    server = RecordedServer(record(3, owned=True))
    session: RecordedSession = server.open_session()
    source = ShardSource(Client(session), COPY)  # type: ignore[arg-type]
    assert [row.seq for row in source.page(0).results] == [1, 2, 3]
    assert source.page(3) == Page([], 3)
    ends: list[BaseException] = []

    def poll() -> None:
        with pytest.raises(InterruptedRequestError) as raised:
            source.poll(3)
        ends.append(raised.value)

    thread = threading.Thread(target=poll)
    thread.start()
    source.interrupt()
    thread.join()
    assert ends
    assert len(server.log.pages) == 3


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "not-owned"])
def test_a_feed_is_replayed_to_its_end(owned: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A real listener finishes all rows, does for them what it should, and ends."""
    replayed = replay(2 * PAGE_ROWS, owned=owned)
    assert (replayed.rows, replayed.owned) == (2 * PAGE_ROWS, owned)
    # Each page is asked for once, and what comes after the last page at least once.
    assert len(replayed.pages) >= 3
    assert list(replayed.pages) == sorted(replayed.pages)
    assert replayed.rows_a_second > 0


def test_every_stage_is_measured_alone() -> None:
    """Each stage gives several values of pyperf, and all of them are kept."""
    alone = stages.measure(QUICK.pyperf)
    assert tuple(alone) == stages.STAGES
    assert all(len(values) > 1 and min(values) > 0 for values in alone.values())


def test_rates_are_of_the_whole_and_of_its_parts() -> None:
    """The rate of a round is over the whole feed. A point of its curve is over some pages."""
    replayed = Replay(10 * PAGE_ROWS, owned=True, seconds=2.0, pages=(*[0.0] * 6, 0.5, 0.75, 1.0, 1.5, 2.0))
    assert replayed.rows_a_second == 5 * PAGE_ROWS
    assert replayed.curve(2) == [(0.5, 4 * PAGE_ROWS), (1.0, 2 * PAGE_ROWS)]
    drawn = rates_chart([replayed])
    assert drawn.limit == 20_000
    assert len(drawn.lines) == 1


def test_tables_show_medians_beside_goals() -> None:
    """Each feed and each stage has a line. A stage that has no rows has no time of a row."""
    rounds = {
        owned: [Replay(1_000, owned=owned, seconds=seconds, pages=(0.0,)) for seconds in (1.0, 0.5, 0.1)]
        for owned in (False, True)
    }
    assert [row[-2:] for row in rates_table(rounds).rows] == [
        ("2,000 (1,000–10,000)", "200,000"),  # noqa: RUF001
        ("2,000 (1,000–10,000)", "20,000"),  # noqa: RUF001
    ]
    rows = stages_table([Stage(stages.DECODE, [0.002, 0.001, 0.003]), Stage(stages.SAVE, [0.0001])]).rows
    assert rows == (
        (stages.DECODE, "2.000 (1.000–3.000)", "2.00", "500"),  # noqa: RUF001
        (stages.SAVE, "0.100", "", ""),
    )


def test_the_stage_that_saves_has_something_new_to_write_each_time(tmp_path: Path) -> None:
    """The store skips a state that is the same as before, so saving would seem to cost nothing."""
    listener, state = stages.Listener(tmp_path), tmp_path / "copy.sqlite"
    sizes = []
    for _ in range(3):
        listener.advance()
        listener.save()
        sizes.append(state.with_name(f"{state.name}-wal").stat().st_size)
    assert sizes[0] < sizes[1] < sizes[2]
    listener.save()
    assert state.with_name(f"{state.name}-wal").stat().st_size == sizes[2]
