import threading
from collections.abc import Callable

import msgspec
import pytest

from peruserd.core.cluster.views import Copy, Feed
from peruserd.core.common.names import user_document_id, user_name
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.progress import START
from peruserd.core.feed.rows import PAGE_ROWS, Leaf, Page, Row, Sequence
from peruserd.core.ownership.hashing import document_hash
from peruserd.core.ownership.ranges import WHOLE_SPACE
from peruserd.couch import errors
from peruserd.couch.client import Client
from peruserd.couch.session import quoted
from peruserd.couch.sources import ChangeSource, DatabaseSource, DirectorySource, ShardSource, open_source
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import (
    TalkingServer,
    answering,
    connect,
)
from tests.waiting import PATIENCE_SECONDS, eventually

RANGE = "00000000-7fffffff"


def _copies(cluster: SimClusterThread, client: Client, node: int = 1) -> list[Copy]:
    shard_map = client.shard_map("_local", "_users")
    assert shard_map is not None
    return [Copy("_users", covered, cluster.node_names[node - 1], shard_map.suffix) for covered in shard_map.hosts]


DATABASE = Copy("_users", WHOLE_SPACE, "n", feed=Feed.DATABASE)


@pytest.fixture(params=["shard", "database"])
def copy(request: pytest.FixtureRequest, cluster: SimClusterThread, client: Client) -> Copy:
    """Both kinds of copies: one of the first range, and the whole database."""
    return DATABASE if request.param == "database" else _copies(cluster, client)[0]


@pytest.fixture
def source(copy: Copy, client: Client) -> ChangeSource:
    """Both kinds of sources."""
    return open_source(copy, client)


def _all_rows(source: ChangeSource, limit: int, since: Sequence = START) -> list[Row]:
    rows: list[Row] = []
    while (page := source.page(since, limit)).results:
        assert len(page.results) <= limit
        rows += page.results
        since = page.last_seq
    return rows


class Asking:
    """A long poll in its own thread."""

    def __init__(self, ask: Callable[[], Page]) -> None:
        self.page: Page | None = None
        self.error: Exception | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.page = self._ask()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def end(self) -> Page | None:
        """Wait for the answer."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        return self.page


def _wait_for_poll(cluster: SimClusterThread, count: int = 1) -> None:
    eventually(
        lambda: sum(n for (_, _, kind), n in cluster.requests().items() if kind.endswith("changes")) >= count,
        "the poll arrived",
    )


def test_a_copy_names_its_kind(cluster: SimClusterThread, client: Client) -> None:
    """A shard copy and a whole database each have their own source."""
    assert isinstance(open_source(_copies(cluster, client)[0], client), ShardSource)
    assert isinstance(open_source(DATABASE, client), DatabaseSource)


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_end_where_the_feed_ends(cluster: SimClusterThread, source: ChangeSource, limit: int) -> None:
    """Page by page every document comes once, and the last page is empty."""
    cluster.seed_users(30)
    rows = _all_rows(source, limit)
    assert len({row.id for row in rows}) == len(rows)
    assert _all_rows(source, limit, rows[-1].seq) == []
    if isinstance(source, DatabaseSource):
        assert {row.id for row in rows} == {user_document_id(f"user{n:06d}") for n in range(30)} | {"_design/_auth"}


def test_ranges_share_the_documents(cluster: SimClusterThread, client: Client) -> None:
    """The copies of all ranges together have all documents. Sequences are growing integers."""
    cluster.seed_users(30)
    together = [_all_rows(open_source(copy, client), 10) for copy in _copies(cluster, client)]
    for rows in together:
        sequences = [row.seq for row in rows if isinstance(row.seq, int)]
        assert len(sequences) == len(rows)
        assert sequences == sorted(set(sequences))
    assert sum(map(len, together)) == 31


def test_any_node_reads_anothers_copy(cluster: SimClusterThread, client: Client) -> None:
    """A copy can be read through any node. If its own node is away, the error says so."""
    cluster.seed_users(10)
    far = open_source(_copies(cluster, client, node=3)[0], client)
    near = open_source(_copies(cluster, connect(cluster.urls[2]), node=3)[0], connect(cluster.urls[2]))
    assert _all_rows(far, 100) == _all_rows(near, 100)
    cluster.stop_node(3)
    with pytest.raises(errors.NodeDownError):
        far.page(START)


def test_deleted_documents_are_marked(cluster: SimClusterThread, client: Client, source: ChangeSource) -> None:
    """A deleted document is in the feed once, at its newest sequence."""
    name = next(name for name in map(str, range(100)) if _in_first_range(name))
    cluster.add_user(name, "x")
    (before,) = [row for row in _all_rows(source, 100) if row.id == user_document_id(name)]
    path = f"/_users/{user_document_id(name)}"
    rev = client.session.request("GET", path).decode(dict[str, object])["_rev"]
    client.session.request("DELETE", path, params={"rev": str(rev)}).expect(200)
    (after,) = [row for row in _all_rows(source, 100) if row.id == user_document_id(name)]
    assert (before.deleted, after.deleted) == (False, True)
    assert before.seq != after.seq


def _in_first_range(name: str) -> bool:
    return document_hash(user_document_id(name)) < 1 << 31


def test_a_long_poll_returns_what_is_there_at_once(cluster: SimClusterThread, source: ChangeSource) -> None:
    """With changes after the sequence a long poll returns at once."""
    cluster.seed_users(10)
    page = source.poll(START, 3)
    assert len(page.results) == 3


def test_a_long_poll_returns_when_a_change_arrives(cluster: SimClusterThread, source: ChangeSource) -> None:
    """At the end of the feed a long poll waits, and returns a change as soon as there is one."""
    end = source.identify().update_seq
    cluster.clear_requests()
    asking = Asking(lambda: source.poll(end))
    _wait_for_poll(cluster)
    names = [name for name in map(str, range(100)) if _in_first_range(name)][:1]
    cluster.add_user(names[0], "x")
    page = asking.end()
    assert page is not None
    assert [row.id for row in page.results] == [user_document_id(names[0])]
    assert source.page(page.last_seq).results == []


def test_a_long_poll_ends_with_nothing(cluster: SimClusterThread, copy: Copy, client: Client) -> None:
    """If no change comes during a poll, its page is empty, and the next one goes on from the same place."""
    source = open_source(copy, client, long_poll_seconds=0.05)
    cluster.seed_users(5)
    end = source.page(START).last_seq
    page = source.poll(end)
    assert page.results == []
    assert source.page(page.last_seq).results == []


def test_a_long_poll_is_interrupted(cluster: SimClusterThread, source: ChangeSource) -> None:
    """Another thread ends a waiting poll."""
    end = source.identify().update_seq
    cluster.clear_requests()
    asking = Asking(lambda: source.poll(end))
    _wait_for_poll(cluster)
    source.interrupt()
    asking.end()
    assert isinstance(asking.error, errors.InterruptedRequestError)


@pytest.mark.parametrize("body", [b"", b"\n", {"results": [], "last_seq": 7}])
def test_a_poll_on_a_shard_that_is_split_away_is_an_empty_page(body: object) -> None:
    """CouchDB ends such a poll early, with an empty 200. That is a page without rows, and no error."""
    copy = Copy("_users", WHOLE_SPACE, "n1", ".1")
    path = "/_node/n1/shards%2F00000000-ffffffff%2F_users.1/_changes"
    with TalkingServer(answering({("GET", path): (200, body)})) as server:
        page = open_source(copy, connect(server.url)).poll(7)
    assert (page.results, page.last_seq) == ([], 7)


def test_rows_that_do_not_go_on_are_no_feed() -> None:
    """A proxy that drops the query returns the same page for ever. As an error this brings a pause."""
    copy = Copy("_users", WHOLE_SPACE, "n1", ".1")
    path = "/_node/n1/shards%2F00000000-ffffffff%2F_users.1/_changes"
    body = {"results": [{"seq": 7, "id": "a", "changes": [{"rev": "1-a"}]}], "last_seq": 7}
    with TalkingServer(answering({("GET", path): (200, body)})) as server:
        source = open_source(copy, connect(server.url))
        assert source.page(0).last_seq == 7
        with pytest.raises(errors.UnexpectedAnswerError, match="the rows end at 7"):
            source.page(7)
        with pytest.raises(errors.UnexpectedAnswerError):
            source.poll(7)


def test_a_sequence_beyond_the_end_is_answered_with_nothing(cluster: SimClusterThread, client: Client) -> None:
    """The server does not report an old checkpoint as an error, so the copy must be identified first."""
    cluster.seed_users(5)
    source = open_source(_copies(cluster, client)[0], client)
    assert source.page(1_000_000) == Page([], 1_000_000)


def test_a_directory_tells_of_shard_maps_that_were_written(cluster: SimClusterThread, client: Client) -> None:
    """Each database that is created, split or deleted makes a new row."""
    directory = DirectorySource(client, cluster.node_names[1])
    end = directory.page("now", 1).last_seq
    client.create_database("userdb-61", DatabasesConfig())
    client.create_database("userdb-62", DatabasesConfig())
    client.delete_database("userdb-61")
    rows = directory.page(end).results
    assert [(row.id, row.deleted) for row in rows] == [("userdb-62", False), ("userdb-61", True)]
    assert directory.page("now", 1).last_seq == rows[-1].seq
    asking = Asking(lambda: directory.poll(rows[-1].seq))
    cluster.split("_users")
    page = asking.end()
    assert page is not None
    assert {row.id for row in page.results} == {"_users"}


# Identities


def test_each_copy_has_an_identity(cluster: SimClusterThread, client: Client) -> None:
    """Copies have different uuids, and each tells its last sequence."""
    cluster.seed_users(20)
    identities = []
    for node in (1, 2, 3):
        for copy in _copies(cluster, client, node):
            source = open_source(copy, client)
            identity = source.identify()
            assert identity == source.identify()
            assert identity.update_seq == source.page(START).last_seq
            identities.append(identity)
    assert len({identity.uuid for identity in identities}) == 6


def test_a_copy_made_again_is_another_one(cluster: SimClusterThread, client: Client) -> None:
    """After a rebuild the copy has the same name and another uuid."""
    cluster.seed_users(20)
    source = open_source(_copies(cluster, client)[0], client)
    before = source.identify()
    cluster.rebuild_copy(1, "_users", RANGE)
    assert source.identify().uuid != before.uuid


def test_the_newest_rows_are_told(cluster: SimClusterThread, source: ChangeSource) -> None:
    """The newest rows have their revisions. An empty feed has no rows."""
    cluster.seed_users(5)
    rows = _all_rows(source, PAGE_ROWS)
    assert [(row.id, row.changes) for row in source.recent()] == [(row.id, row.changes) for row in rows]
    assert all(row.rev is not None for row in rows)


def test_a_row_is_known_wherever_its_document_has_gone_since(
    cluster: SimClusterThread, client: Client, source: ChangeSource
) -> None:
    """After a document changes its row moves, and the history is the same."""
    cluster.seed_users(3)
    rows = _all_rows(source, PAGE_ROWS)
    assert all(source.has(row) for row in rows)
    for row in rows:
        if row.id.startswith("org.couchdb.user:"):
            client.session.request("DELETE", f"/_users/{quoted(row.id)}", params={"rev": row.rev or ""}).expect(200)
    assert all(source.has(row) for row in rows)


def test_a_conflict_at_the_row_is_no_other_history(
    cluster: SimClusterThread, client: Client, source: ChangeSource
) -> None:
    """A user can add a losing revision. The document's row moves, and the history is the same."""
    cluster.seed_users(3)
    rows = [row for row in _all_rows(source, PAGE_ROWS) if row.id.startswith("org.couchdb.user:")]
    losing = {"_rev": f"1-{32 * '0'}", "type": "user", "roles": []}
    body = {"new_edits": False, "docs": [{**losing, "_id": row.id, "name": user_name(row.id)} for row in rows]}
    assert client.session.request("POST", "/_users/_bulk_docs", body=body).expect(201).decode(list[object]) == []
    cluster.replicate()
    moved = {row.id: row for row in _all_rows(source, PAGE_ROWS)}
    assert all(moved[row.id].changes == row.changes for row in rows)
    assert all(moved[row.id].seq != row.seq for row in rows)
    assert all(source.has(row) for row in rows)


def test_a_row_that_never_was_is_not_known(cluster: SimClusterThread, source: ChangeSource) -> None:
    """Neither a row of an unknown document nor one with an unknown revision is in the history."""
    cluster.seed_users(3)
    row = _all_rows(source, PAGE_ROWS)[-1]
    assert not source.has(msgspec.structs.replace(row, id="org.couchdb.user:nobody"))
    assert not source.has(msgspec.structs.replace(row, changes=(Leaf("1-" + 32 * "0"),)))


def test_files_that_were_put_back_do_not_have_the_newest_rows(cluster: SimClusterThread, client: Client) -> None:
    """This holds even if as many rows have come since, or if internal replication has brought the lost rows back."""
    source = open_source(_copies(cluster, client)[0], client)
    cluster.seed_users(4)
    backup = cluster.back_up_copies(1, "_users")
    cluster.seed_users(40, "lost")
    *_, newest = recent = source.recent()
    assert source.has(newest)
    assert source.has(*recent)
    cluster.restore_copies(backup)
    cluster.seed_users(40, "since")
    assert not source.has(newest)
    assert not source.has(*recent)


def test_a_copy_that_is_gone_is_not_found(client: Client, source: ChangeSource) -> None:
    """After the database is deleted, every request about its copy raises NotFoundError."""
    client.delete_database("_users")
    for ask in (source.identify, lambda: source.page(START), lambda: source.poll(START)):
        with pytest.raises(errors.NotFoundError):
            ask()


def test_a_database_keeps_the_identity_it_was_given(cluster: SimClusterThread, client: Client) -> None:
    """The first instance writes the database's identity. All find the same one, after any changes."""
    first = open_source(DATABASE, client).identify()
    cluster.seed_users(3)
    second = open_source(DATABASE, connect(cluster.urls[1])).identify()
    assert first.uuid == second.uuid
    assert first.update_seq != second.update_seq


def test_a_databases_identity_is_in_no_feed(client: Client) -> None:
    """The identity is a local document, so it is no change, and is not replicated."""
    source = open_source(DATABASE, client)
    source.identify()
    assert [row.id for row in source.page(START).results] == ["_design/_auth"]


def test_a_database_made_again_is_another_one(client: Client) -> None:
    """A new database of the same name has another identity."""
    source = open_source(DATABASE, client)
    before = source.identify()
    client.delete_database("_users")
    client.create_database("_users", DatabasesConfig())
    assert source.identify().uuid != before.uuid


def test_a_feed_is_followed_through_the_end_of_a_node() -> None:
    """Opaque sequences of a database from one node are valid at another."""
    with SimClusterThread(ClusterOptions()) as cluster:
        cluster.seed_users(10)
        first = open_source(DATABASE, connect(cluster.urls[0])).page(START, 5)
        cluster.stop_node(1)
        rest = _all_rows(open_source(DATABASE, connect(cluster.urls[1])), 100, first.last_seq)
        assert {row.id for row in [*first.results, *rest]} >= {user_document_id(f"user{n:06d}") for n in range(10)}
