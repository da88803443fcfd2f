from collections.abc import Iterator

import pytest

from peruserd.couch.clocks import node_clock
from peruserd.couch.errors import ConflictError, NoMajorityError, NotFoundError, UnexpectedAnswerError
from peruserd.couch.journal import Document, Journal, Leaf
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import Conversation, TalkingServer, answer, answering, connect, session_to

DATABASE = "peruserd"


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """Three nodes with peruserd's own database, of one range."""
    with SimClusterThread(ClusterOptions()) as running:
        connect(running.urls[0]).session.request("PUT", f"/{DATABASE}", params={"q": "1"}).expect(201)
        yield running


def journal_at(cluster: SimClusterThread, node: int) -> Journal:
    """Return the journal through a node, counted from 1."""
    return Journal(session_to(cluster.urls[node - 1]), DATABASE)


def test_what_is_written_is_read_again(cluster: SimClusterThread) -> None:
    """A document is read at any node, with its content and without CouchDB's own fields."""
    rev = journal_at(cluster, 1).write("deletion:db/1:1-a", {"a": 1}, None)
    document = journal_at(cluster, 2).read("deletion:db/1:1-a")
    assert document.leaves == (Leaf(rev, {"a": 1}),)
    assert document.bodies == [{"a": 1}]


def test_what_never_was_has_no_leaf(cluster: SimClusterThread) -> None:
    """A missing document is no error, but a missing database is."""
    assert journal_at(cluster, 1).read("pause") == Document("pause")
    with pytest.raises(NotFoundError):
        Journal(session_to(cluster.urls[0]), "elsewhere").read("pause")


def test_a_write_over_what_was_not_read_is_a_conflict(cluster: SimClusterThread) -> None:
    """Two writers do not overwrite each other: the second one gets an error."""
    journal = journal_at(cluster, 1)
    first = journal.write("pause", {"n": 1}, None)
    with pytest.raises(ConflictError):
        journal.write("pause", {"n": 2}, None)
    second = journal.write("pause", {"n": 2}, first)
    with pytest.raises(ConflictError):
        journal.write("pause", {"n": 3}, first)
    assert journal.read("pause").leaves == (Leaf(second, {"n": 2}),)


def test_a_minority_is_no_success(cluster: SimClusterThread) -> None:
    """A write that only one of three copies took is reported as a failure, and a read still finds it."""
    cluster.partition([[1], [2, 3]])
    with pytest.raises(NoMajorityError):
        journal_at(cluster, 1).write("pause", {"n": 1}, None)
    assert journal_at(cluster, 1).read("pause").bodies == [{"n": 1}]
    assert journal_at(cluster, 2).read("pause").bodies == []


def test_every_leaf_is_read(cluster: SimClusterThread) -> None:
    """After a cut the writes of both sides are there, singly and in a page; deletions have no body."""
    cluster.partition([[1], [2, 3]])
    with pytest.raises(NoMajorityError):
        journal_at(cluster, 1).write("word:x", {"said": "one"}, None)
    journal_at(cluster, 2).write("word:x", {"said": "two"}, None)
    cluster.heal()
    cluster.replicate()
    journal = journal_at(cluster, 3)
    document = journal.read("word:x")
    assert sorted(map(str, document.bodies)) == ["{'said': 'one'}", "{'said': 'two'}"]
    assert journal.page("word:", "word:\ufff0").documents == (document,)
    session_to(cluster.urls[0]).request("DELETE", f"/{DATABASE}/word:x", params={"rev": document.leaves[1].rev}).expect(
        200
    )
    left = journal.read("word:x")
    assert (left.leaves[0], left.leaves[1].body) == (document.leaves[0], None)


def test_pages_follow_each_other(cluster: SimClusterThread) -> None:
    """Page after page gives each document once, in the order of the ids, and none of other kinds."""
    journal = journal_at(cluster, 1)
    for name in ("drop:1", "deletion:a:1-x", "deletion:b:1-x", "deletion:c:1-x", "pause"):
        journal.write(name, {"n": name}, None)
    first = journal.page("deletion:", "deletion:\ufff0", limit=2)
    second = journal.page("deletion:", "deletion:\ufff0", after=first.documents[-1].id, limit=2)
    assert [each.id for each in (*first.documents, *second.documents)] == [f"deletion:{each}:1-x" for each in "abc"]
    assert (first.more, second.more) == (True, False)


def test_counting_stops_where_it_may(cluster: SimClusterThread) -> None:
    """The count stops at its limit, for any number of documents."""
    journal = journal_at(cluster, 1)
    for number in range(5):
        journal.write(f"drop:{number}", {}, None)
    assert journal.count("drop:1", "drop:\ufff0", 100) == 4
    assert journal.count("drop:", "drop:\ufff0", 3) == 3


def test_what_is_purged_leaves_nothing(cluster: SimClusterThread) -> None:
    """A purged document is gone with its history and conflicts, and can be written again."""
    journal = journal_at(cluster, 1)
    rev = journal.write("drop:1", {"n": 1}, None)
    journal.write("drop:1", {"n": 2}, rev)
    journal.write("drop:2", {}, None)
    journal.purge([journal.read("drop:1"), journal.read("never")])
    assert journal.read("drop:1").leaves == ()
    assert [each.id for each in journal.page("drop:", "drop:\ufff0").documents] == ["drop:2"]
    journal.write("drop:1", {}, None)
    copies = cluster.snapshot_copies(DATABASE).values()
    assert all(set(copy["revs"]) == {"drop:1", "drop:2"} for ranges in copies for copy in ranges.values())


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "missing"), (405, "Only GET allowed"), (501, "no"), (400, "only_multipart_accepted")]
)
def test_a_server_that_cannot_purge_is_asked_to_delete(status: int, reason: str) -> None:
    """On a server without `_purge` each leaf is deleted. The last of these answers is PouchDB Server's."""
    answers: dict[tuple[str, str], tuple[int, object]] = {
        ("GET", "/peruserd/drop:1"): (200, [{"ok": {"_id": "drop:1", "_rev": "1-a", "n": 1}}]),
        ("POST", "/peruserd/_purge"): (status, {"error": "x", "reason": reason}),
        ("POST", "/peruserd/_bulk_docs"): (201, []),
    }
    answers = {(method, path.replace(":", "%3A")): each for (method, path), each in answers.items()}
    with TalkingServer(answering(answers)) as server:
        journal = Journal(session_to(server.url), DATABASE)
        journal.purge([journal.read("drop:1")])
        assert server.requests[-1].body == b'{"docs":[{"_id":"drop:1","_rev":"1-a","_deleted":true}]}'


def test_what_changed_is_told_from_a_place_on(cluster: SimClusterThread) -> None:
    """The feed names the documents written since, and goes on from there."""
    journal = journal_at(cluster, 1)
    _, place = journal.changed_since("now")
    journal.write("word:x", {}, None)
    ids, place = journal.changed_since(place)
    assert ids == ["word:x"]
    assert journal.changed_since(place)[0] == []


@pytest.mark.parametrize(
    "body",
    [
        [{"ok": {"_id": "other", "_rev": "1-a"}}],
        [{"ok": {"_id": "pause"}}],
        {"ok": True},
        b"<html>",
    ],
)
def test_an_answer_about_something_else_is_none(body: object) -> None:
    """A proxy's answer instead of the document is a failure, and never an empty document."""
    with (
        TalkingServer(answering({("GET", "/peruserd/pause"): (200, body)})) as server,
        pytest.raises(UnexpectedAnswerError),
    ):
        Journal(session_to(server.url), DATABASE).read("pause")


def test_each_node_tells_its_own_time(cluster: SimClusterThread) -> None:
    """The clock of another node can be read through the attached node."""
    cluster.set_clock(2, 7_200.0)
    client = connect(cluster.urls[0])
    ours, theirs = node_clock(client, "_local"), node_clock(client, cluster.node_names[1])
    assert ours is not None
    assert theirs is not None
    assert 7_190 < theirs - ours < 7_210


def test_a_server_that_tells_no_time_is_not_believed_to() -> None:
    """An answer without a valid date gives no time."""
    with TalkingServer(answering({("GET", "/_node/_local/_uuids"): (200, {"uuids": ["x"]})})) as server:
        assert node_clock(connect(server.url), "_local") is None


@pytest.mark.parametrize(
    ("info", "documents"),
    [
        ({"doc_count": 2, "doc_del_count": 3, "update_seq": 9}, 5),
        ({"doc_count": 0, "doc_del_count": 0, "update_seq": "7-abc"}, 0),
        ({"doc_count": 0, "update_seq": 0}, 0),
        ({"doc_count": 0, "update_seq": 4}, 4),
        ({"doc_count": 0, "update_seq": "4-abc"}, 1),
        ({"doc_count": 0}, 1),
    ],
)
def test_a_database_is_empty_only_where_the_server_says_so(info: dict[str, object], documents: int) -> None:
    """A server that does not count deleted documents shows by its sequence whether there ever was a write."""
    with TalkingServer(answering({("GET", "/db"): (200, info)})) as server:
        assert connect(server.url).documents_in("/db") == documents


@pytest.mark.parametrize(
    "date", ["Thu, 26 Nov 2026 19:56:15 +99999999999999", "Thu, 26 Nov 2026 19:56:15 -0000", "soon", "Mon, 99 Nov 2026"]
)
def test_a_date_of_another_form_is_no_time(date: str) -> None:
    """A server's date has one form. A date without a zone would count as one of this machine's zone."""

    def script(conversation: Conversation) -> None:
        for _ in conversation.requests():
            head = f"Date: {date}\r\nContent-Length".encode()
            conversation.send(answer(200, {"uuids": ["x"]}).replace(b"Content-Length", head, 1))

    with TalkingServer(script) as server:
        assert node_clock(connect(server.url), "_local") is None


def test_pages_that_go_nowhere_are_an_error() -> None:
    """Without this error, a server that ignores the start key would be read for ever."""
    rows = [{"id": "word:a", "doc": {"_id": "word:a", "_rev": "1-a"}}]
    with TalkingServer(answering({("GET", "/peruserd/_all_docs"): (200, {"rows": rows})})) as server:
        journal = Journal(session_to(server.url), DATABASE)
        first = journal.page("word:", "word:\ufff0", limit=1)
        assert (len(first.documents), first.more) == (1, True)
        with pytest.raises(UnexpectedAnswerError, match="what comes after"):
            journal.page("word:", "word:\ufff0", after=first.documents[-1].id, limit=1)


def test_no_leaf_is_left_unread() -> None:
    """Any leaf can have the most careful word, so a document with too many leaves is an error."""
    leaves = [{"ok": {"_id": "word:a", "_rev": f"1-{number}", "word": "drop-now"}} for number in range(101)]
    with TalkingServer(answering({("GET", "/peruserd/word%3Aa"): (200, leaves)})) as server:
        journal = Journal(session_to(server.url), DATABASE)
        with pytest.raises(UnexpectedAnswerError, match="more than 100 conflicting revisions"):
            journal.read("word:a")
