from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.deletions.journal import Ending, Entry, Kind, Pause, PauseReason, Saying, Word
from peruserd.core.processes.control import (
    MAX_USERS,
    DeletionOrder,
    Done,
    Noted,
    PauseAll,
    Refused,
    ResumeAll,
    ResumeOnly,
    Say,
    Unknown,
)
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.daemon.operator import Operator
from peruserd.simcluster import ClusterOptions, SimClusterThread
from tests.couch.connecting import connect, session_to

UID = 33
NOW = 1_700_000_000.0


@pytest.fixture
def cluster() -> Iterator[SimClusterThread]:
    """One node with peruserd's own database."""
    with SimClusterThread(ClusterOptions(nodes=1)) as running:
        connect(running.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        yield running


@pytest.fixture
def journal(cluster: SimClusterThread) -> DeletionJournal:
    """The journal."""
    return DeletionJournal(Journal(session_to(cluster.urls[0]), "peruserd"))


@pytest.fixture
def harness(journal: DeletionJournal) -> "OperatorHarness":
    """The part that carries out orders."""
    return OperatorHarness(journal)


class OperatorHarness:
    """Carries out orders, with a fixed clock."""

    def __init__(self, journal: DeletionJournal) -> None:
        self.changes = 0
        self._operator = Operator(
            journal,
            prefix="userdb-",
            instance=lambda: "node1@host",
            on_change=self._changed,
            wall_clock=lambda: NOW,
        )

    def __call__(self, order: DeletionOrder) -> list[Any]:
        return list(self._operator.carry_out(order, UID))

    def _changed(self) -> None:
        self.changes += 1


def entry(user: str, *, revision: str = "2-" + "a" * 32, kind: Kind = Kind.DELETION) -> Entry:
    """Return a waiting entry of a user."""
    return Entry(
        document=user_document_id(user),
        database=database_name("userdb-", user),
        suffix=".1600000000",
        revision=revision,
        noted_at=NOW - 100,
        due_at=NOW + 100,
        sequence=9,
        kind=kind,
    )


@pytest.mark.parametrize("word", [Word.CANCEL, Word.HOLD, Word.DROP_NOW])
def test_a_word_is_written_on_what_waits(harness: OperatorHarness, journal: DeletionJournal, word: Word) -> None:
    """The word is in the journal for each tombstone of this user only, with its time and its author."""
    first, second = entry("ann"), entry("ann", revision="4-" + "b" * 32)
    for each in (first, second, entry("ann2")):
        journal.note(each)
    answers = harness(Say(word, ("ann",)))
    assert answers == [Noted("ann", each.id, each.database) for each in (first, second)] + [Done()]
    assert journal.saying(first.id) == journal.saying(second.id) == Saying(word, at=NOW, by=UID)
    assert journal.saying(entry("ann2").id) == Saying()
    assert harness.changes == 1


def test_a_word_can_be_changed(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """The newest word of an operator replaces the one before, even if it is less careful."""
    journal.note(entry("ann"))
    for word in (Word.HOLD, Word.DROP_NOW):
        harness(Say(word, ("ann",)))
    assert journal.saying(entry("ann").id).word is Word.DROP_NOW


def test_a_word_is_said_of_what_it_is_about(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """`release` applies to users who came back, `cancel` to deletions, and `drop-now` to both."""
    deletion, back = entry("ann"), entry("bob", kind=Kind.RETURN)
    journal.note(deletion)
    journal.note(back)
    assert isinstance(harness(Say(Word.RELEASE, ("ann",)))[0], Unknown)
    assert isinstance(harness(Say(Word.CANCEL, ("bob",)))[0], Unknown)
    assert harness(Say(Word.RELEASE, ("bob",)))[0] == Noted("bob", back.id, back.database)
    assert harness(Say(Word.DROP_NOW, ("bob", "ann")))[:-1] == [
        Noted("bob", back.id, back.database),
        Noted("ann", deletion.id, deletion.database),
    ]


@pytest.mark.parametrize("user", ["nobody", "", "x" * 200])
def test_a_user_for_whom_nothing_waits_is_named(harness: OperatorHarness, user: str) -> None:
    """A typing error is reported, and has no effect."""
    answers = harness(Say(Word.CANCEL, (user,)))
    assert [type(each) for each in answers] == [Unknown, Done]
    assert answers[0].user == user


def test_what_has_ended_is_not_waiting(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """After a drop no word applies to the database any more."""
    journal.note(entry("ann").ended(Ending.DROPPED, NOW))
    assert isinstance(harness(Say(Word.CANCEL, ("ann",)))[0], Unknown)


def test_all_is_paused_and_resumed(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """The journal has the pause and its author. After a resumption the count of drops starts again."""
    assert harness(PauseAll()) == [Done()]
    assert journal.pause() == Pause(paused=True, why=PauseReason.OPERATOR, at=NOW, instance="node1@host")
    assert harness(ResumeAll()) == [Done()]
    assert journal.pause() == Pause(at=NOW, resumed_at=NOW, instance="node1@host")


def test_a_word_beside_a_pause_is_told_to_wait(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """After an order to drop at once during a pause, the operator is told that the drop waits."""
    journal.note(entry("ann"))
    harness(PauseAll())
    (_, done) = harness(Say(Word.DROP_NOW, ("ann",)))
    assert "resume" in done.notice


def test_only_some_can_be_resumed(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """The named users pass the pause. Their holds end, and an order to drop at once stays."""
    for user in ("ann", "bob", "eve"):
        journal.note(entry(user))
    harness(Say(Word.HOLD, ("ann",)))
    harness(Say(Word.DROP_NOW, ("bob",)))
    harness(PauseAll())
    harness(ResumeOnly(("ann", "bob")))
    said = {user: journal.saying(entry(user).id) for user in ("ann", "bob", "eve")}
    assert {user: (each.word, each.resumed) for user, each in said.items()} == {
        "ann": (Word.NOTHING, True),
        "bob": (Word.DROP_NOW, True),
        "eve": (Word.NOTHING, False),
    }
    assert journal.pause().paused


TOO_MANY = ("ann",) * (MAX_USERS + 1)


@pytest.mark.parametrize("order", [Say(Word.CANCEL, TOO_MANY), ResumeOnly(TOO_MANY)], ids=["say", "resume"])
def test_an_order_that_names_too_many_is_refused_and_nothing_else(
    harness: OperatorHarness, order: DeletionOrder
) -> None:
    """The last answer is a refusal."""
    (answer,) = harness(order)
    assert isinstance(answer, Refused)
    assert not answer.again


def test_an_order_without_a_journal_is_refused(cluster: SimClusterThread) -> None:
    """If peruserd's own database does not exist yet, the operator is told so."""
    harness = OperatorHarness(DeletionJournal(Journal(session_to(cluster.urls[0]), "elsewhere")))
    (answer,) = harness(Say(Word.CANCEL, ("ann",)))
    assert isinstance(answer, Refused)
    assert "elsewhere" in answer.why


def test_an_order_that_the_server_cannot_take_is_refused(
    cluster: SimClusterThread, harness: OperatorHarness, journal: DeletionJournal
) -> None:
    """A failed write is reported as a failure."""
    journal.note(entry("ann"))
    cluster.fail(1, 500, path_regex="word", method="PUT")
    (answer,) = harness(Say(Word.CANCEL, ("ann",)))
    assert isinstance(answer, Refused)
    assert answer.again
    cluster.clear_faults()
    assert journal.saying(entry("ann").id) == Saying()


def test_each_word_is_in_the_log(harness: OperatorHarness, journal: DeletionJournal) -> None:
    """One log line has the author, the word and the deletion."""
    journal.note(entry("ann"))
    with structlog.testing.capture_logs() as lines:
        harness(Say(Word.CANCEL, ("ann",)))
    (line,) = [each for each in lines if each["event"] == "audit"]
    assert line["action"] == "cancel"
    assert (line["database"], line["document"]) == (entry("ann").database, entry("ann").document)
    assert (line["sequence"], line["revision"]) == (9, entry("ann").revision)
    assert str(UID) in line["why"]


def test_a_word_said_in_a_cut_cluster_is_read_with_the_other() -> None:
    """After a cut with a word on each side the more careful one is in force, and a later word replaces both."""
    with SimClusterThread(ClusterOptions()) as cluster:
        connect(cluster.urls[0]).session.request("PUT", "/peruserd", params={"q": "1"}).expect(201)
        journals = [DeletionJournal(Journal(session_to(url), "peruserd")) for url in cluster.urls]
        journals[0].note(entry("ann"))
        cluster.partition([[1], [2, 3]])
        assert isinstance(OperatorHarness(journals[0])(Say(Word.CANCEL, ("ann",)))[-1], Refused)
        OperatorHarness(journals[1])(Say(Word.DROP_NOW, ("ann",)))
        cluster.heal()
        cluster.replicate()
        assert {each.saying(entry("ann").id).word for each in journals} == {Word.CANCEL}
        OperatorHarness(journals[2])(Say(Word.DROP_NOW, ("ann",)))
        assert {each.saying(entry("ann").id).word for each in journals} == {Word.DROP_NOW}
