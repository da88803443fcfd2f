"""couch_peruser, switched on beside this program."""

import pytest
from structlog.testing import capture_logs

from peruserd.couch.client import Client
from peruserd.simcluster import SimClusterThread
from peruserd.supervisor.peruser_watch import PeruserWatch, is_peruser_on
from tests.couch.connecting import TalkingServer, answering, connect

SETTING = "/_node/_local/_config/couch_peruser/enable"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _switch(client: Client, value: str) -> None:
    client.session.request("PUT", SETTING, body=value).expect(200)


def test_the_setting_is_read(cluster: SimClusterThread) -> None:
    """Without a setting couch_peruser is off."""
    client = connect(cluster.urls[0])
    for value, is_on in ((None, False), ("true", True), ("false", False)):
        if value is not None:
            _switch(client, value)
        assert is_peruser_on(client, "_local") is is_on


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_does_not_say_is_not_taken_for_one_without(status: int) -> None:
    """If a proxy closes the configuration, the answer is unknown."""
    with TalkingServer(answering({("GET", SETTING): (status, {"error": "e", "reason": "r"})})) as server:
        assert is_peruser_on(connect(server.url), "_local") is None


def test_it_is_said_once_when_it_comes_and_when_it_goes(cluster: SimClusterThread) -> None:
    """The node is asked once a minute, and the log has one line for each change."""
    client, clock = connect(cluster.urls[0]), Clock()
    second = PeruserWatch(client, clock=clock)
    assert second.is_on is None
    with capture_logs() as lines:
        for value in ("true", "true", "false", "false"):
            _switch(client, value)
            clock.now += 60.0
            second.check("_local")
            second.check("_local")
    assert [line["event"] for line in lines] == ["couch_peruser is on beside this instance", "couch_peruser is off"]
    assert second.is_on is False
    asked = [kind for (_, method, kind), count in cluster.requests().items() for _ in range(count) if method == "GET"]
    assert asked == ["config"] * 4
