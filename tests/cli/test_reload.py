"""`peruserd reload` against a control socket with given answers."""

import json

import pytest

from peruserd.core.processes.control import Answer, Done, Mistaken, Refused, Reload, Reloaded
from tests.cli.conftest import Serve
from tests.cli.running import peruserd


def test_what_has_changed_is_printed(serve: Serve, environment: dict[str, str]) -> None:
    """Everything is in force, or soon will be."""
    orders = serve(Reloaded(("log.level",), ("databases.q", "security.grant"), ()), Done())
    ran = peruserd("reload", environment=environment)
    assert ran.returncode == 0
    assert orders == [Reload()]
    assert ran.stdout.splitlines() == [
        "in force now: log.level",
        "in force as the listeners start again, one after the other: databases.q, security.grant",
    ]


def test_a_key_that_waits_for_a_restart_is_not_done(serve: Serve, environment: dict[str, str]) -> None:
    """A script must notice that the file and the daemon differ."""
    serve(Reloaded((), (), ("http.listen",)), Done())
    ran = peruserd("reload", environment=environment)
    assert (ran.returncode, ran.stdout) == (1, "not in force before a restart: http.listen\n")


def test_json_has_the_same(serve: Serve, environment: dict[str, str]) -> None:
    """Each effect has a field."""
    serve(Reloaded(("log.level",), (), ("http.listen",)), Done())
    ran = peruserd("reload", "--json", environment=environment)
    assert json.loads(ran.stdout) == {
        "done": False,
        "at_once": ["log.level"],
        "with_listeners": [],
        "needs_restart": ["http.listen"],
    }


def test_the_same_file_changes_nothing(serve: Serve, environment: dict[str, str]) -> None:
    """The password was read again all the same."""
    serve(Reloaded((), (), ()), Done())
    ran = peruserd("reload", environment=environment)
    assert (ran.returncode, ran.stdout) == (0, "read again; nothing has changed\n")


def test_a_file_with_mistakes_is_refused_with_each_of_them(serve: Serve, environment: dict[str, str]) -> None:
    """The exit code is that of a start with this file. What the file quotes cannot steer a terminal."""
    serve(Mistaken(("file: log.level: found 'loud\x1b[2J'", "templates.directory: /x: cannot be read")))
    ran = peruserd("reload", "--json", environment=environment)
    assert ran.returncode == 78
    assert "stays in force" in ran.stderr
    assert "loud\\x1b[2J" in ran.stderr
    assert "templates.directory" in ran.stderr
    answer = json.loads(ran.stdout)
    assert (answer["error"], answer["done"]) == ("configuration", False)


@pytest.mark.parametrize(("answers", "kind"), [((Refused("stopping"),), "refused_by_daemon"), ((), "no_answer")])
def test_a_daemon_that_stops_may_be_asked_again(
    serve: Serve, environment: dict[str, str], answers: tuple[Answer, ...], kind: str
) -> None:
    """A later try can succeed."""
    serve(*answers)
    ran = peruserd("reload", "--json", environment=environment)
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (75, kind)


def test_an_answer_to_another_order_is_not_taken_for_success(serve: Serve, environment: dict[str, str]) -> None:
    """The daemon is of another version."""
    serve(Done())
    ran = peruserd("reload", environment=environment)
    assert ran.returncode == 1
    assert "another version" in ran.stderr


def test_without_a_daemon_nothing_is_reloaded(environment: dict[str, str]) -> None:
    """The exit code says that a later try may help."""
    ran = peruserd("reload", environment=environment)
    assert ran.returncode == 75
    assert "no daemon runs here" in ran.stderr
