"""What a new database begins with is asked now and then, not each time."""

from typing import Any

import pytest

from peruserd.listener import defaults
from peruserd.listener.defaults import DefaultSecurity
from peruserd.simcluster import SimClusterThread
from tests.couch.connecting import connect
from tests.listener.clocks import Clock
from tests.listener.office import SECURED, Office, made, objects

OPEN: dict[str, Any] = {}
CLOSED = {"members": {"roles": ["_admin"]}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the module looks at."""
    clock = Clock()
    monkeypatch.setattr(defaults, "time", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_it_is_read_once_for_many_databases() -> None:
    """The second new database is taken to begin like the first."""
    asked: list[str] = []
    default = DefaultSecurity(lambda database: asked.append(database) or CLOSED)  # type: ignore[func-returns-value]
    assert [default.of("a"), default.of("b")] == [CLOSED, CLOSED]
    assert asked == ["a"]


def test_it_is_read_again_after_a_while(clock: Clock) -> None:
    """An operator who changes the server's default is heard within a minute."""
    answers = [CLOSED, OPEN]
    default = DefaultSecurity(lambda _: answers.pop(0))
    default.of("a")
    clock.now += 59.0
    assert default.of("b") == CLOSED
    clock.now += 1.0
    assert default.of("c") == OPEN


def test_a_read_that_fails_is_not_believed(clock: Clock) -> None:
    """The error is the user's whose database was asked for, and the next one asks again."""

    def refuse(_: str) -> dict[str, Any]:
        raise ConnectionError(str(clock.now))

    default = DefaultSecurity(refuse)
    for database in ("a", "b"):
        with pytest.raises(ConnectionError):
            default.of(database)


def test_new_users_are_served_with_two_requests_each(cluster: SimClusterThread) -> None:
    """Only the first of them costs a read; every database is secured for its own user all the same."""
    office = Office(connect(cluster.urls[0]))
    for user in ("ann", "bob", "eve"):
        assert office.ensure(user).provisioned
    assert made(cluster, "GET", "security") == 1
    assert objects(cluster) == [SECURED] * 3


def test_a_database_that_was_there_is_always_read(cluster: SimClusterThread) -> None:
    """What somebody put into its security object is kept, however many new databases were made before."""
    office = Office(connect(cluster.urls[0]))
    office.ensure("bob")
    another = Office(connect(cluster.urls[0]))
    another.ensure("ann")
    cluster.clear_requests()
    assert office.ensure("ann").provisioned
    assert made(cluster, "GET", "security") == 1
