"""Sessions with a limited rate of requests."""

import pytest

from peruserd.couch.client import Client
from peruserd.couch.errors import InterruptedRequestError
from peruserd.couch.paced import PacedSession
from tests.couch.connecting import TalkingServer, answering, settings_of, tokens_of

ANSWERS: dict[tuple[str, str], tuple[int, object]] = {("GET", "/"): (200, {"couchdb": "Welcome", "version": "3.5.0"})}


def test_each_request_waits_for_its_turn_and_none_is_sent_once_it_stops() -> None:
    """An exception from `before_request` is raised, and no request is sent."""
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(server.requests))
        if len(turns) > 2:
            raise InterruptedRequestError("stopping")

    with TalkingServer(answering(ANSWERS)) as server:
        couchdb, credentials = settings_of(server.url)
        client = Client(PacedSession(couchdb, tokens_of(credentials), before_request=turn))
        assert client.welcome().version == "3.5.0"
        assert client.welcome().version == "3.5.0"
        with pytest.raises(InterruptedRequestError):
            client.welcome()
        assert turns == [0, 1, 2]
        assert len(server.requests) == 2
