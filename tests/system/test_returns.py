"""When a node comes back, its copies of newly made databases become right, also where CouchDB does not repair them.

CouchDB makes these copies with the object of a new database, and its own repair can miss them.
"""

from collections.abc import Callable, Iterator

import pytest

from peruserd.core.users.security import is_private
from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.simulated import sim
from tests.system.target import Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually, eventually_each

# No absence lasts this long, so none changes an owner.
_QUIET_SECONDS = 600.0

# One request in a quarter of an hour, because the audit would repair the copies as well.
_SLOW = 0.001


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes without own repairs of security objects."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3, repairs_security=False)) as opened:
        yield opened


@pytest.fixture
def team(target: Target, make_daemon: Callable[..., Daemon]) -> Team:
    """Start an instance beside each node; no absence changes its view in force, and its audit finds nothing."""
    return Team(target, make_daemon, {"cluster": {"quiet_period": _QUIET_SECONDS}, "audit": {"rate": _SLOW}})


def _served(target: Target, names: list[str]) -> bool:
    """Say whether the readable copies let each user in."""
    found = [(target.security(name), name) for name in names]
    return all(each is not None and is_private(each, name) for each, name in found)


def _wrong(target: Target, names: list[str]) -> list[str]:
    """Return the users who do not have three right copies."""
    copies = [(target.copies(name), name) for name in names]
    return [name for each, name in copies if len(each) != 3 or not all(is_private(one, name) for one in each)]


def _sign_up_without(team: Team, node: str) -> list[str]:
    """Let users be served while a node is away; their own rows cause no further look at them."""
    names = [name for name, owner in team.owners(team.target.new_names(12)).items() if owner != node]
    team.target.sign_up(names)
    eventually(lambda: _served(team.target, names), "they are served by the other nodes")
    eventually_each(
        team.instances[:2], lambda each: (each.state / "absences.json").exists(), "the absence is seen, and on disk"
    )
    return names


def test_databases_that_were_made_during_a_short_absence_are_whole_after_it(team: Team) -> None:
    """The absence is shorter than the quiet period, so it changes no owner."""
    sim(team).stop_node(3)
    names = _sign_up_without(team, team.nodes[2])
    sim(team).start_node(3)
    sim(team).replicate()
    eventually(lambda: not _wrong(team.target, names), "every copy is whole")


def test_a_restart_during_the_absence_forgets_nobody(team: Team) -> None:
    """Each instance is killed while the node is away, so no process remembers which databases were made."""
    sim(team).stop_node(3)
    names = _sign_up_without(team, team.nodes[2])
    for instance in team.instances[:2]:
        instance.kill()
        instance.start()
    sim(team).start_node(3)
    sim(team).replicate()
    eventually(lambda: not _wrong(team.target, names), "every copy is whole")
