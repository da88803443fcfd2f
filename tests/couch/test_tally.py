"""The count of requests by outcome."""

import pytest

from peruserd.couch import errors
from peruserd.couch import session as session_module
from peruserd.couch.tally import Tally
from tests.couch.connecting import Conversation, TalkingServer, answer, session_to


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> Tally:
    """A new tally in the place of that of the process."""
    tally = Tally()
    monkeypatch.setattr(session_module, "TALLY", tally)
    return tally


def test_each_answer_counts_once_by_its_status(tally: Tally) -> None:
    """What the caller makes of the status does not matter: a 412 is what a database gives that is there already."""

    def talk(conversation: Conversation) -> None:
        for request in conversation.requests():
            conversation.send(answer(int(request.path[1:]), {}))

    with TalkingServer(talk) as server:
        session = session_to(server.url)
        for status in (200, 404, 404, 412, 418):
            session.request("PUT", f"/{status}")
    assert tally.outcomes() == {"200": 1, "404": 2, "412": 1, "4xx": 1}
    assert sum(tally.latency().buckets) == 5


def test_a_request_without_an_answer_counts_by_its_error(tally: Tally) -> None:
    """A connection that breaks says nothing about the time of answers."""

    def talk(conversation: Conversation) -> None:
        conversation.request()
        conversation.cut()

    with TalkingServer(talk) as server, pytest.raises(errors.UnreachableError):
        session_to(server.url).request("PUT", "/a")
    assert tally.outcomes() == {"unreachable": 1}
    assert sum(tally.latency().buckets) == 0


def test_a_long_poll_says_nothing_about_speed(tally: Tally) -> None:
    """It lasts until something happens."""

    def talk(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.send(answer(200, {}))

    with TalkingServer(talk) as server:
        session_to(server.url).request("GET", "/_changes", wait_seconds=5.0)
    assert tally.outcomes() == {"200": 1}
    assert sum(tally.latency().buckets) == 0


def test_a_request_that_this_process_ends_is_no_failure(tally: Tally) -> None:
    """Each stop interrupts some long polls."""

    def talk(conversation: Conversation) -> None:
        for _ in conversation.requests():
            conversation.hold()

    with TalkingServer(talk) as server:
        session = session_to(server.url)
        session.interrupt()
        with pytest.raises(errors.InterruptedRequestError):
            session.request("GET", "/a")
    assert tally.outcomes() == {}
