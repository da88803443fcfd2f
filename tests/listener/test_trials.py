"""A hold that is wrong, or that somebody wants to keep up: who tries meanwhile, and what an enemy can do with it."""

import pytest

from peruserd.core.users.quarantine import Advice, Failure
from peruserd.listener.outcome import Outcome
from tests.listener.set_books import AWAY, DONE, SEEN, WHY, Books

ENEMIES = [f"enemy{number}" for number in range(20)]

OWN = Outcome(failure=Failure("template_refused", "the database refuses it", Advice.GIVE_UP))


@pytest.mark.parametrize("answer", [AWAY, OWN, SEEN], ids=["like the cluster", "his own", "nothing to write"])
def test_an_enemy_who_changes_all_the_time_is_not_the_only_one_who_tries(books: Books, answer: Outcome) -> None:
    """His document changes whenever it is looked at, and his database answers what he likes: others try as well."""
    books.sign_up("enemy")
    books.serve(AWAY)
    books.probe(WHY)
    books.sign_up("ann", "bob")
    tried = []
    for _ in range(6):
        books.probe(WHY, after=6.0)
        while books.tracker.report().on_hold is not None and (change := books.take()) is not None:
            user = change.document_id.removeprefix("org.couchdb.user:")
            tried.append(user)
            if user == "enemy":
                books.sign_up("enemy")
            books.tracker.give_back(change, answer if user == "enemy" else DONE)
            assert len(tried) < 10, "the enemy tries again and again"
        if books.tracker.report().on_hold is None:
            break
    assert tried[-1] == "ann"
    assert books.tracker.report().on_hold is None


def hold(books: Books, *names: str) -> None:
    """Let these users fail, and the probe."""
    books.sign_up(*names)
    books.serve_all(AWAY)
    books.probe(WHY)
    assert books.tracker.report().on_hold == WHY


def test_twenty_enemies_before_an_honest_user_keep_up_no_hold(books: Books) -> None:
    """More try each time, and each of them once, so the honest one comes after seconds."""
    hold(books, *ENEMIES)
    books.sign_up("ann")
    began = books.clock.now
    while books.tracker.report().on_hold is not None:
        books.probe(WHY, after=1.3)
        while (change := books.take()) is not None:
            user = change.document_id.removeprefix("org.couchdb.user:")
            if user != "ann":
                books.sign_up(user)
            books.tracker.give_back(change, DONE if user == "ann" else AWAY)
            if user == "ann":
                break
        assert books.clock.now - began < 29.0
    assert sorted(books.serve_all()) == sorted(ENEMIES)
    assert books.tracker.report().checkpoint == books.tracker.wait_for_room()


def test_enemies_whose_databases_hang_keep_nobody_from_trying(books: Books) -> None:
    """Their trials are under way for as long as a request may take: others begin meanwhile."""
    hold(books, *ENEMIES[:2])
    hanging = []
    for _ in range(2):
        books.probe(WHY, after=6.0)
        while (change := books.take()) is not None:
            hanging.append(change)
        books.sign_up("ann")
    assert len(hanging) == 3
    assert hanging[2].document_id.endswith(":ann")
    books.tracker.give_back(hanging[2], DONE)
    assert books.tracker.report().on_hold is None
    for change in hanging[:2]:
        books.tracker.give_back(change, AWAY)
    assert books.kept == ENEMIES[:2]


def test_one_who_has_tried_tries_again_where_nobody_else_waits(books: Books) -> None:
    """A hold that is wrong ends, although nobody signs up."""
    hold(books, "ann")
    for _ in range(5):
        books.probe(WHY, after=6.0)
        if (change := books.take()) is not None:
            books.tracker.give_back(change, AWAY)
            assert books.take() is None
    books.probe(WHY, after=6.0)
    assert books.serve(DONE) == "ann"
    assert books.tracker.report().on_hold is None


def test_whatever_enemies_answer_a_probe_that_succeeds_ends_a_hold(books: Books) -> None:
    """All who have tried are taken up with all others, the newest first."""
    hold(books, "enemy", "ann")
    for _ in range(3):
        books.probe(WHY, after=6.0)
        for _ in range(2):
            if (change := books.take()) is not None:
                books.sign_up(change.document_id.removeprefix("org.couchdb.user:"))
                books.tracker.give_back(change, AWAY)
    books.sign_up("bob")
    books.probe(None)
    served = books.serve_all()
    assert served[0] == "bob"
    assert sorted(served) == ["ann", "bob", "enemy"]
    report = books.tracker.report()
    assert (report.on_hold, report.waiting, report.checkpoint) == (None, 0, books.tracker.wait_for_room())


def test_an_outage_after_a_wrong_hold_fills_the_quarantine_for_seconds(books: Books) -> None:
    """The probe is disbelieved at first; then all are held up, and those who are in quarantine come back with them."""
    hold(books, "ann")
    books.probe(WHY, after=6.0)
    books.serve(DONE)
    outage: list[str] = []
    while books.tracker.report().on_hold is None:
        outage.append(f"u{len(outage)}")
        books.sign_up(outage[-1])
        books.tracker.retry_due()
        books.serve_all(AWAY)
        books.probe(WHY, after=0.5)
    assert len(books.kept) <= 21
    books.probe(None)
    assert set(books.serve_all()) == set(outage)
    books.tracker.save()
    assert books.kept == []
