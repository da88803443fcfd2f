"""The directory watch, on simulated clusters."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.directory import Mark, News
from peruserd.core.common.backoff import Backoff
from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch.errors import TimedOutError
from peruserd.couch.sources import LONG_POLL_SECONDS
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor import directory_watch as directory_watch_module
from peruserd.supervisor import pausing
from peruserd.supervisor.directory_watch import DirectoryWatch
from tests.couch.connecting import connect
from tests.supervisor.writing import put_now
from tests.waiting import PATIENCE_SECONDS, eventually

ME = "node1@127.0.0.1"


@pytest.fixture
def pair() -> Iterator[SimClusterThread]:
    """Run a cluster of two nodes."""
    with SimClusterThread(ClusterOptions(nodes=2, q=2, n=2)) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_watch_module, "_MIN_SECONDS", 0.01)
    for name in ("_AWAY", "_BACKOFF"):
        monkeypatch.setattr(pausing, name, Backoff(initial_seconds=0.01, max_seconds=0.01))


class Heard:
    """Takes a directory watch's requests for looks; all looks are over at once."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.changed: list[str] = []
        self.comparisons = 0
        self.seen_to: Mark | None = None

    def on_news(self, news: News, mark: Mark) -> None:
        """Note the news, and that its looks are over."""
        self.made += news.made
        self.changed += news.changed
        self.seen_to = mark

    def compare_names(self) -> None:
        """Compare names."""
        self.comparisons += 1


class Post:
    """A directory watch beside the first of two nodes, and its calls."""

    def __init__(
        self,
        cluster: SimClusterThread,
        directory: Path,
        long_poll_seconds: float = LONG_POLL_SECONDS,
        account: str = "adm:pass",
    ) -> None:
        self.heard = Heard()
        self.cluster = cluster
        self.changes = 0
        self.breaks = 0
        self.client = connect(cluster.urls[0])
        watching = connect(cluster.urls[0].replace("adm:pass@", f"{account}@"))
        self.watch = DirectoryWatch(
            watching,
            node=self.node,
            on_change={"_users": self._changed},
            prefix="userdb-",
            looks=self.heard,
            directory=directory,
            put=put_now,
            on_break=self._broke,
            long_poll_seconds=long_poll_seconds,
        )

    def node(self) -> str | None:
        return ME

    def _changed(self) -> None:
        self.changes += 1

    def _broke(self) -> None:
        self.breaks += 1

    def polls(self) -> int:
        """Return how often the feed was asked."""
        return self.cluster.requests().get((ME, "GET", "dbs_changes"), 0)

    def start(self) -> "Post":
        """Start the watch, and wait for its long poll."""
        before = self.polls()
        self.watch.start()
        eventually(lambda: self.polls() >= before + 2, "it waits at the feed")
        return self

    def stop(self) -> None:
        """Stop the watch, and check that its thread has ended."""
        self.watch.stop()
        assert not self.watch._task.is_running


@pytest.fixture
def post(pair: SimClusterThread, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Post]:
    """Make a directory watch, and stop it at the end; the parameter is the length of a long poll in seconds."""
    made = Post(pair, tmp_path, getattr(request, "param", LONG_POLL_SECONDS))
    yield made
    if made.watch._task.is_running:
        made.stop()


def test_a_split_is_told_when_the_map_changes(pair: SimClusterThread, post: Post) -> None:
    """Both ranges are split. Each split changes the map, and the next reading of the map shows the halves."""
    post.start()
    pair.split("_users")
    eventually(lambda: post.changes >= 1, "the change was told")
    eventually(
        lambda: (shard_map := post.client.shard_map(ME, "_users")) is not None and len(shard_map.hosts) == 4,
        "the map has the halves",
    )


def test_maps_of_other_databases_are_no_change(post: Post) -> None:
    """The list has the map of each user's database too; only that of the authentication database counts."""
    post.start()
    before = post.polls()
    post.client.create_database("userdb-61", DatabasesConfig())
    post.client.delete_database("userdb-61")
    eventually(lambda: post.polls() > before, "it has heard of them")
    assert post.changes == 0
    post.client.delete_database("_users")
    eventually(lambda: post.changes == 1, "the deletion was told")
    post.client.create_database("_users", DatabasesConfig())
    eventually(lambda: post.changes == 2, "the new one was told")


def test_what_was_there_before_is_no_change(post: Post) -> None:
    """The cluster watch reads the first map itself, so the watch reports only later ones."""
    post.start()
    assert post.changes == 0


def test_a_quiet_poll_is_followed_by_another(pair: SimClusterThread, tmp_path: Path) -> None:
    """After an empty poll the next one starts from the same place."""
    post = Post(pair, tmp_path, long_poll_seconds=0.05).start()
    eventually(lambda: post.polls() >= 6, "it has polled several times")
    post.client.delete_database("_users")
    eventually(lambda: post.changes == 1, "the deletion was told")
    assert post.watch.failures == 0
    post.stop()


def test_polls_are_held_apart(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """While databases are created all the time each poll ends at once, and a short pause follows."""
    monkeypatch.setattr(directory_watch_module, "_MIN_SECONDS", PATIENCE_SECONDS * 2)
    post.watch.start()
    eventually(lambda: post.polls() == 1, "it has asked where the feed ends")
    post.client.create_database("userdb-61", DatabasesConfig())
    post.client.create_database("userdb-62", DatabasesConfig())
    time.sleep(0.1)
    assert post.polls() == 1


def test_a_node_that_is_away_is_waited_for(pair: SimClusterThread, post: Post) -> None:
    """A broken poll is repeated. One line says that changes cannot be waited for, and one that they can again."""
    numbers = itertools.count()

    def polls_again() -> bool:
        # An open poll has not ended yet, so it does not show that the node is back.
        post.client.create_database(f"userdb-{next(numbers):04x}", DatabasesConfig())
        return post.watch.failures == 0

    with capture_logs() as logged:
        post.start()
        pair.stop_node(1)
        eventually(lambda: post.watch.failures >= 3, "it has tried in vain")
        pair.start_node(1)
        eventually(polls_again, "it polls again")
        post.client.delete_database("_users")
        eventually(lambda: post.changes == 1, "the deletion was told")
    events = [line["event"] for line in logged]
    assert events.count("changes of databases cannot be waited for") == 1
    assert events.count("changes of databases can be waited for again") == 1


def test_one_that_is_refused_does_not_hammer_the_server(
    pair: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the path is closed to the account, the pauses are the same as after any failure."""
    monkeypatch.setattr(pausing, "_BACKOFF", Backoff(initial_seconds=60.0, max_seconds=60.0))
    post = Post(pair, tmp_path, account="adm:wrong")
    post.watch.start()
    eventually(lambda: post.watch.failures == 1, "it was refused")
    time.sleep(0.1)
    assert pair.requests().get((ME, "GET", "dbs")) == 1
    post.stop()


def test_without_shards_there_is_nothing_to_watch(
    pair: SimClusterThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without shards no request is sent. Shards may show up later, because a proxy hid them."""
    monkeypatch.setattr(directory_watch_module, "_NO_SHARDS_SECONDS", 0.01)
    post = Post(pair, tmp_path)
    nodes: list[str | None] = [None] * 3
    post.watch._node = lambda: nodes.pop() if nodes else ME
    post.watch.start()
    eventually(lambda: post.polls() >= 2, "it waits at the feed")
    assert not nodes
    post.stop()


def test_a_server_without_shards_is_left_alone_to_the_end(pair: SimClusterThread, tmp_path: Path) -> None:
    """The pause does not delay the end either."""
    post = Post(pair, tmp_path)
    post.watch._node = lambda: None
    post.watch.start()
    post.stop()
    assert post.polls() == 0


def test_a_node_that_is_not_known_yet_is_asked_for_again(pair: SimClusterThread, tmp_path: Path) -> None:
    """The daemon can start before its node. An unforeseen error does not end the watch either."""
    post = Post(pair, tmp_path)
    errors = [ValueError("what nobody foresaw"), TimedOutError("not yet")]

    def node() -> str | None:
        if errors:
            raise errors.pop()
        return ME

    post.watch._node = node
    post.start()
    pair.split("_users")
    eventually(lambda: post.changes >= 1, "the change was told")
    post.stop()


def test_a_poll_under_way_ends_with_the_watch(post: Post) -> None:
    """A stop does not wait for a long poll to end, which can take 25 seconds."""
    post.start()
    ended = threading.Event()

    def stop() -> None:
        post.stop()
        ended.set()

    threading.Thread(target=stop).start()
    assert ended.wait(LONG_POLL_SECONDS / 2)
    assert post.watch.failures == 0


# Users' databases

A, B = (user_document_id(name) for name in "ab")


def test_what_becomes_of_users_databases_is_told(post: Post) -> None:
    """News are created, deleted and created databases of users. Databases without the prefix belong to no user."""
    post.start()
    post.client.create_database("userdb-61", DatabasesConfig())
    post.client.create_database("other-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "the first creation was told")
    post.client.delete_database("userdb-61")
    eventually(lambda: post.heard.changed == [A], "the deletion was told")
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.changed == [A, A], "the new one was told")
    assert post.heard.made == [A]


def restarted(post: Post, tmp_path: Path) -> Post:
    """Stop the watch, change databases, and start another watch over the same state directory."""
    post.start()
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "the creation was told")
    post.stop()
    return Post(post.cluster, tmp_path)


def test_a_list_is_read_on_from_where_it_was(post: Post, tmp_path: Path) -> None:
    """The new watch reports the changes in between, and compares no names."""
    again = restarted(post, tmp_path)
    again.client.delete_database("userdb-61")
    again.client.create_database("userdb-62", DatabasesConfig())
    again.start()
    eventually(lambda: (again.heard.changed, again.heard.made) == ([A], [B]), "all was told")
    assert (post.heard.comparisons, again.heard.comparisons) == (1, 0)
    again.stop()


def test_a_place_that_nobody_has_seen_to_is_not_kept(post: Post, tmp_path: Path) -> None:
    """The new watch asks again for looks that were not over when the instance ended."""
    post.start()
    place = post.heard.seen_to
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "the creation was told")
    post.heard.seen_to = place
    post.stop()
    again = Post(post.cluster, tmp_path)
    again.start()
    eventually(lambda: again.heard.made == [A], "it is told again")
    again.stop()


@pytest.mark.parametrize(
    "kept",
    [b"", b"{", b"\xff", b'{"uuid": "another", "sequence": 1}', b'{"uuid": "6e6f64653140313237", "sequence": 99}'],
    ids=["empty", "half", "no text", "of another list", "ahead of the list"],
)
def test_a_place_that_proves_nothing_costs_a_comparison(pair: SimClusterThread, tmp_path: Path, kept: bytes) -> None:
    """Reading goes on from the end of the list, and a comparison of names finds missed changes."""
    (tmp_path / "directory.json").write_bytes(kept)
    post = Post(pair, tmp_path).start()
    assert post.heard.comparisons == 1
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "what comes is told")
    post.stop()


def test_a_list_that_was_put_back_is_noticed(post: Post, tmp_path: Path) -> None:
    """The list keeps its name and may be as long again, but the row at the place differs."""
    again = restarted(post, tmp_path)
    kept = json.loads((tmp_path / "directory.json").read_text())
    kept["last_row"]["changes"] = [{"rev": "1-of-another-history"}]
    (tmp_path / "directory.json").write_text(json.dumps(kept))
    again = Post(post.cluster, tmp_path)
    again.start()
    assert again.heard.comparisons == 1
    again.stop()


def test_a_place_that_cannot_be_kept_ends_nothing(post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the next start a comparison."""
    monkeypatch.setattr(directory_watch_module, "_SAVE_SECONDS", 0.0)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(directory_watch_module, "write_whole", fail)
    post.start()
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "the creation was told")
    post.stop()
    assert not (tmp_path / "directory.json").exists()


@pytest.mark.parametrize("post", [0.2], indirect=True)
def test_a_node_that_cannot_be_reached_is_told_once(pair: SimClusterThread, post: Post) -> None:
    """Other instances may not notice so short an absence. A long poll with a regular end is no break."""
    post.start()
    assert post.breaks == 0
    pair.stop_node(1)
    eventually(lambda: post.watch.failures > 1, "the node is away")
    pair.start_node(1)
    eventually(lambda: post.watch.failures == 0, "it waits at the feed again")
    assert post.breaks == 1
