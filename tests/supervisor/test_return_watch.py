"""The return watch, on simulated clusters."""

import errno
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd.core.cluster.directory import Mark
from peruserd.core.cluster.views import View
from peruserd.core.common.names import user_document_id
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.rows import Page, Sequence
from peruserd.core.ownership.ranges import WHOLE_SPACE, ShardMap
from peruserd.couch.sources import DirectorySource
from peruserd.simcluster import ClusterOptions, SimClusterThread
from peruserd.supervisor import return_watch as return_watch_module
from peruserd.supervisor.return_watch import ReturnWatch
from tests.couch.connecting import connect
from tests.supervisor.writing import put_now

ME, OTHER = "node1@127.0.0.1", "node2@127.0.0.1"
BOTH = View(nodes=(ME, OTHER), instances=(ME,), shard_map=None)
ALONE = View(nodes=(ME,), instances=(ME,), shard_map=None)


@pytest.fixture
def pair() -> Iterator[SimClusterThread]:
    """Run a cluster of two nodes."""
    with SimClusterThread(ClusterOptions(nodes=2, q=1, n=2)) as running:
        yield running


class Heard:
    """Notes the requested looks; they are over once the test sets `looked_to`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.looked_to = 0
        self.knows_all = True
        self.has_ranges = True
        self._number = 0

    def look_on_return(self, _node: str, document_ids: Iterable[str]) -> int | None:
        """Note the looks, if the listeners know that the node is back."""
        if not self.knows_all or not self.has_ranges:
            return None
        self.asked += document_ids
        self._number += 1
        return self._number


class Post:
    """A return watch beside the first of two nodes; `place` is the place of the directory watch."""

    def __init__(self, cluster: SimClusterThread, directory: Path) -> None:
        self.client = connect(cluster.urls[0])
        self.heard = Heard()
        self.directory = directory
        self.place: Mark | None = None
        self.follow()
        self.watch = self.begin()

    def begin(self) -> ReturnWatch:
        """Make another one over the same state, as after a restart."""
        return ReturnWatch(
            self.client,
            node=lambda: ME,
            place=lambda: self.place,
            prefix="userdb-",
            looks=self.heard,
            directory=self.directory,
            put=put_now,
        )

    def follow(self) -> None:
        """Read the list to its end, like the directory watch."""
        identity = DirectorySource(self.client, ME).identify()
        self.place = Mark(identity.uuid, identity.update_seq)

    def make(self, *names: str) -> None:
        """Make databases, and let the directory watch read them."""
        for name in names:
            self.client.create_database(f"userdb-{name.encode().hex()}", DatabasesConfig())
        self.follow()

    @property
    def kept(self) -> dict[str, object]:
        """Return the content of the file on disk."""
        found: dict[str, object] = json.loads((self.directory / "absences.json").read_text())
        return found


@pytest.fixture
def post(pair: SimClusterThread, tmp_path: Path) -> Post:
    """Make a return watch."""
    return Post(pair, tmp_path)


def test_a_place_that_could_not_be_written_is_written_later(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full for a moment must not let a later restart forget the absence. One line says so."""
    post.watch.on_view(BOTH)
    with capture_logs() as logged:
        with monkeypatch.context() as patched:
            patched.setattr(return_watch_module, "write_whole", _refuse)
            post.watch.on_view(ALONE)
            post.watch.on_view(ALONE)
        post.watch.on_view(ALONE)
    assert list(post.kept) == [OTHER]
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == [
        "a restart would not know what absent nodes have missed"
    ]


def _refuse(_file: Path, _content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_users_are_looked_at_whose_databases_a_node_missed(post: Post) -> None:
    """Once the node is back, all users are looked at whose databases were made meanwhile. Others do not count."""
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a", "b")
    post.client.create_database("something", DatabasesConfig())
    post.client.delete_database("userdb-61")
    post.watch.on_view(ALONE)
    assert post.heard.asked == []
    post.watch.on_view(BOTH)
    assert sorted(post.heard.asked) == [user_document_id("a"), user_document_id("b")]


def test_an_instance_that_stands_by_misses_a_node_until_it_has_listeners(pair: SimClusterThread, post: Post) -> None:
    """The active one can die before it has looked. The list is not read again and again meanwhile."""
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a")
    post.heard.has_ranges = False
    pair.clear_requests()
    for _ in range(3):
        post.watch.on_view(BOTH)
    assert (post.heard.asked, list(post.kept)) == ([], [OTHER])
    assert [kind for _, _, kind in pair.requests() if "changes" in kind] == []
    post.heard.has_ranges = True
    post.watch.on_view(BOTH)
    assert post.heard.asked == [user_document_id("a")]


def test_nobody_is_looked_at_before_the_listeners_know_of_the_return(post: Post) -> None:
    """While the listeners do not know that the node is back, their looks would end without its copies."""
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a")
    post.heard.knows_all = False
    post.watch.on_view(BOTH)
    assert post.heard.asked == []
    post.heard.knows_all = True
    post.watch.on_view(BOTH)
    assert post.heard.asked == [user_document_id("a")]


def test_an_absence_is_on_disk_until_it_is_seen_to(post: Post) -> None:
    """After a restart while the node is away, no user is forgotten."""
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a")
    assert list(post.kept) == [OTHER]
    again = post.begin()
    again.on_view(BOTH)
    assert post.heard.asked == [user_document_id("a")]
    assert list(post.kept) == [OTHER], "the looks are not over, and there is a second reading"


def test_a_list_that_cannot_be_read_is_read_after_the_next_view(post: Post, pair: SimClusterThread) -> None:
    """The other node may be back before this instance's own node answers."""
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a")
    pair.stop_node(1)
    post.watch.on_view(BOTH)
    assert post.heard.asked == []
    pair.start_node(1)
    post.watch.on_view(BOTH)
    assert post.heard.asked == [user_document_id("a")]


def test_a_long_list_is_read_over_several_views(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster watch has other work between two pages."""
    monkeypatch.setattr(return_watch_module, "_MAX_PAGES", 1)
    whole = DirectorySource.page

    def page_of_two(source: DirectorySource, since: Sequence) -> Page:
        page = whole(source, since, limit=2)
        return Page(page.results, page.last_seq, cut=bool(page.results))

    monkeypatch.setattr(DirectorySource, "page", page_of_two)
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.make("a", "b", "c")
    post.watch.on_view(BOTH)
    seen = len(post.heard.asked)
    for _ in range(3):
        post.watch.on_view(BOTH)
    assert seen < len(post.heard.asked)
    assert set(map(user_document_id, "abc")) <= set(post.heard.asked)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_file_that_cannot_be_read_stops_nothing(post: Post, content: bytes) -> None:
    """Without the file the audit finds what was missed."""
    (post.directory / "absences.json").write_bytes(content)
    again = post.begin()
    again.on_view(BOTH)
    again.on_view(ALONE)
    assert list(post.kept) == [OTHER]


def test_a_server_without_shards_misses_nobody(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a server has no list of databases, and one copy of everything."""
    monkeypatch.setattr(post.watch, "_node", lambda: None)
    post.place = None
    post.watch.on_view(BOTH)
    post.watch.on_view(ALONE)
    post.watch.on_view(BOTH)
    assert post.heard.asked == []


def test_an_absence_between_two_views_of_a_node_without_an_instance_is_seen(post: Post, pair: SimClusterThread) -> None:
    """Its list of databases was opened again, and no instance beside it can tell others."""
    shards = ShardMap("_users", ".1", {WHOLE_SPACE: (ME, OTHER)})
    both = View(nodes=(ME, OTHER), instances=(ME,), shard_map=shards)
    for _ in range(2):
        post.watch.on_view(both)
    pair.stop_node(2)
    post.make("a")
    pair.start_node(2)
    for _ in range(2):
        post.watch.on_view(both)
    assert post.heard.asked == [user_document_id("a")]
