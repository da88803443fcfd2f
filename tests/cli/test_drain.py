"""`peruserd drain`, with a daemon that gives the answers of a test."""

import json

import pytest

from peruserd.core.processes.control import Done, Drain, Refused
from tests.cli.conftest import Serve
from tests.cli.running import peruserd


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ([], Drain()),
        (["--undo"], Drain(undo=True)),
        (["--force"], Drain(force=True)),
        (["--no-wait"], Drain(waits=False)),
    ],
)
def test_an_order_is_given_and_its_consequence_is_said(
    serve: Serve, environment: dict[str, str], options: list[str], order: Drain
) -> None:
    """The daemon knows best what follows."""
    orders = serve(Done("this node can be taken down"))
    ran = peruserd("drain", *options, environment=environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "peruserd: this node can be taken down\n")
    assert orders == [order]


@pytest.mark.parametrize(("again", "code"), [(False, 1), (True, 75)])
def test_a_refusal_is_not_done(serve: Serve, environment: dict[str, str], *, again: bool, code: int) -> None:
    """A script must not take the node down then."""
    serve(Refused("no other instance is there", again))
    ran = peruserd("drain", "--json", environment=environment)
    assert ran.returncode == code
    answer = json.loads(ran.stdout)
    assert (answer["done"], answer["error"]) == (False, "refused_by_daemon")


def test_json_says_that_it_is_done(serve: Serve, environment: dict[str, str]) -> None:
    """Words stay on standard error."""
    serve(Done("words"))
    ran = peruserd("drain", "--json", environment=environment)
    assert json.loads(ran.stdout) == {"done": True}


def test_without_a_daemon_nothing_is_drained(environment: dict[str, str]) -> None:
    """A node without a daemon needs no drain. The exit code says that nothing was done."""
    assert peruserd("drain", environment=environment).returncode == 75
