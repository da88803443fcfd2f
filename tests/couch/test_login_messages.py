"""The messages about a failed login, of a daemon and of a command."""

import pytest

from peruserd.couch.login_messages import LoginMessages

DAEMON = LoginMessages("adm", "couchdb.password_file (/p)", is_file=True)
COMMAND = LoginMessages("adm", "couchdb.password_file (/p)", is_file=True, asks_again=False)


def test_a_daemon_says_when_it_asks_again() -> None:
    """The daemon tries again by itself, and at once if the file has another password."""
    assert DAEMON.refused(5).endswith("; CouchDB is asked again in 5 s, and as soon as another one is there")
    assert DAEMON.locked(15, by_us=True).endswith("; CouchDB is asked again in 15 s")
    assert DAEMON.unanswered(1).endswith("; it is tried again in 1 s")
    assert DAEMON.withheld(3, 200).endswith("see that couchdb.password_file (/p) has the right one, which is sent then")


@pytest.mark.parametrize(
    "words",
    [
        COMMAND.refused(5),
        COMMAND.locked(15, by_us=False),
        COMMAND.withheld(3, 200),
        COMMAND.unanswered(1),
    ],
)
def test_a_command_ends_and_says_what_to_do(words: str) -> None:
    """A command never promises another try, because it has ended by then."""
    assert "asked again" not in words
    assert "tried again" not in words
    assert "run this" in words


@pytest.mark.parametrize("fixed", [{"is_file": False}, {"is_file": True, "needs_restart": True}])
def test_a_daemon_that_would_not_see_another_password_asks_for_a_restart(fixed: dict[str, bool]) -> None:
    """The environment, the address and a credential of systemd stay as they are while the process runs."""
    messages = LoginMessages("adm", "the place", **fixed)
    assert messages.refused(5).endswith(
        "from the place; put the right one there, and restart peruserd; CouchDB is asked again in 5 s"
    )
    assert messages.withheld(3, 200).endswith("see that the place has the right one, and restart peruserd if not")


def test_a_command_says_where_the_password_comes_from() -> None:
    """Five places can have a password, and the first one is used."""
    assert "which is from couchdb.password_file (/p)" in COMMAND.refused(5)
    assert "couchdb.password_file (/p) has the right one" in COMMAND.withheld(3, 200)
