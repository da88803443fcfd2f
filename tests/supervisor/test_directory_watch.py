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
    monkeypatch.setattr(pausing, "_BACKOFF", Backoff(initial_seconds=0.01, max_seconds=0.01))


class Heard:
    """Takes what a directory watch says to the listeners, who have seen to all of it at once."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.changed: list[str] = []
        self.comparisons = 0
        self.seen_to: Mark | None = None

    def on_news(self, news: News, mark: Mark) -> None:
        """Look at users of whose databases there is news."""
        self.made += news.made
        self.changed += news.changed
        self.seen_to = mark

    def compare_names(self) -> None:
        """Compare names."""
        self.comparisons += 1


class Post:
    """A directory watch beside the first of two nodes, and what it has said."""

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
        """Start, and wait until it waits at the feed."""
        before = self.polls()
        self.watch.start()
        eventually(lambda: self.polls() >= before + 2, "it waits at the feed")
        return self

    def stop(self) -> None:
        """Stop, and see that nothing goes on."""
        self.watch.stop()
        assert not self.watch._thread.is_alive()


@pytest.fixture
def post(pair: SimClusterThread, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Post]:
    """Make a directory watch that is stopped at the end; its parameter is how long a long poll is, in seconds."""
    made = Post(pair, tmp_path, getattr(request, "param", LONG_POLL_SECONDS))
    yield made
    if made.watch._thread.ident is not None:
        made.stop()


def test_a_split_is_told_when_the_map_changes(pair: SimClusterThread, post: Post) -> None:
    """Both ranges become two: each is a change of the map, and the map that is read then has the halves."""
    post.start()
    pair.split("_users")
    eventually(lambda: post.changes >= 1, "the change was told")
    eventually(
        lambda: (shard_map := post.client.shard_map(ME, "_users")) is not None and len(shard_map.hosts) == 4,
        "the map has the halves",
    )


def test_maps_of_other_databases_are_no_change(post: Post) -> None:
    """Each user's database has a map that is listed, too; only the authentication database's counts."""
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
    """The map as it is when the watch begins is the watcher's to look at."""
    post.start()
    assert post.changes == 0


def test_a_quiet_poll_is_followed_by_another(pair: SimClusterThread, tmp_path: Path) -> None:
    """A poll that ends with nothing is made again from the same place."""
    post = Post(pair, tmp_path, long_poll_seconds=0.05).start()
    eventually(lambda: post.polls() >= 6, "it has polled several times")
    post.client.delete_database("_users")
    eventually(lambda: post.changes == 1, "the deletion was told")
    assert post.watch.failures == 0
    post.stop()


def test_polls_are_held_apart(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where databases are made all the time each poll ends at once, and the next one waits a little."""
    monkeypatch.setattr(directory_watch_module, "_MIN_SECONDS", PATIENCE_SECONDS * 2)
    post.watch.start()
    eventually(lambda: post.polls() == 1, "it has asked where the feed ends")
    post.client.create_database("userdb-61", DatabasesConfig())
    post.client.create_database("userdb-62", DatabasesConfig())
    time.sleep(0.1)
    assert post.polls() == 1


def test_a_node_that_is_away_is_waited_for(pair: SimClusterThread, post: Post) -> None:
    """A poll that breaks is made again; it is said once that looks alone see changes, and once that it is over."""
    numbers = itertools.count()

    def polls_again() -> bool:
        # A poll that waits has not come to an end yet, and so has not shown that the node is back.
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
    """A path that is closed to the account is asked for again after the same pauses as any that fails."""
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
    """The server is asked for nothing then, until it turns out to have shards, which a proxy hid."""
    monkeypatch.setattr(directory_watch_module, "_NO_SHARDS_SECONDS", 0.01)
    post = Post(pair, tmp_path)
    nodes: list[str | None] = [None] * 3
    post.watch._node = lambda: nodes.pop() if nodes else ME
    post.watch.start()
    eventually(lambda: post.polls() >= 2, "it waits at the feed")
    assert not nodes
    post.stop()


def test_a_server_without_shards_is_left_alone_to_the_end(pair: SimClusterThread, tmp_path: Path) -> None:
    """Nor does the wait hold up the end."""
    post = Post(pair, tmp_path)
    post.watch._node = lambda: None
    post.watch.start()
    post.stop()
    assert post.polls() == 0


def test_a_node_that_is_not_known_yet_is_asked_for_again(pair: SimClusterThread, tmp_path: Path) -> None:
    """The daemon can start before its node; nor does an error that nobody foresaw end the watch."""
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
    """A stop does not wait for a poll of 25 seconds."""
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
    """A database that was made for the first time, and one that was deleted or made again; others are nobody's."""
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
    """Stop the watch, let both nodes hear of other deeds meanwhile, and start another one over the same directory."""
    post.start()
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "the creation was told")
    post.stop()
    return Post(post.cluster, tmp_path)


def test_a_list_is_read_on_from_where_it_was(post: Post, tmp_path: Path) -> None:
    """What others did in between is told; nobody else's name is compared."""
    again = restarted(post, tmp_path)
    again.client.delete_database("userdb-61")
    again.client.create_database("userdb-62", DatabasesConfig())
    again.start()
    eventually(lambda: (again.heard.changed, again.heard.made) == ([A], [B]), "all was told")
    assert (post.heard.comparisons, again.heard.comparisons) == (1, 0)
    again.stop()


def test_a_place_that_nobody_has_seen_to_is_not_kept(post: Post, tmp_path: Path) -> None:
    """Looks that were not done when the instance ended are asked for again."""
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
    """Reading goes on from the end of the list, and what was missed is found by names."""
    (tmp_path / "directory.json").write_bytes(kept)
    post = Post(pair, tmp_path).start()
    assert post.heard.comparisons == 1
    post.client.create_database("userdb-61", DatabasesConfig())
    eventually(lambda: post.heard.made == [A], "what comes is told")
    post.stop()


def test_a_list_that_was_put_back_is_noticed(post: Post, tmp_path: Path) -> None:
    """It keeps its name and may have come as far again: the row at the place is another one then."""
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
    """Others may not see so short an absence; a wait that ends in order is none."""
    post.start()
    assert post.breaks == 0
    pair.stop_node(1)
    eventually(lambda: post.watch.failures > 1, "the node is away")
    pair.start_node(1)
    eventually(lambda: post.watch.failures == 0, "it waits at the feed again")
    assert post.breaks == 1
