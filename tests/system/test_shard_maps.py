"""Shard maps change while instances run: ranges split, copies move, nodes join and leave, `_users` is made again.

On the simulated cluster, whose controls make it happen.
"""

from collections.abc import Callable, Iterator

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.simulated import HIGH, LOW, sim
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import NEVER_SECONDS, Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


@pytest.fixture
def with_spare() -> Iterator[Target]:
    """Give a simulated cluster of three nodes, and a fourth one that has not joined."""
    with open_simulated(ClusterOptions(nodes=4, spare=1, q=2, n=3)) as opened:
        yield opened


def hosts(team: Team, database: str, covered: str) -> list[int]:
    """Return the numbers of the nodes that have a copy of a range."""
    copies = sim(team).snapshot_copies(database)
    return [number for number, node in enumerate(team.nodes, start=1) if covered in copies[node]]


def move(team: Team, database: str, covered: str, *, giver: int, taker: int) -> None:
    """Move a copy, and wait until it has left its old node."""
    sim(team).move_copy(database, covered, giver, taker)
    eventually(lambda: giver not in hosts(team, database, covered), f"the copy of {covered} has moved")


def wait_until_listening(team: Team) -> None:
    """Wait until each instance listens to the copies of `_users` that its node has, to no other, and has caught up."""

    def agree() -> bool:
        copies = sim(team).snapshot_copies("_users")
        wanted = sorted(f"{covered}@{node}" for node, ranges in copies.items() for covered in ranges)
        return sorted(copy for each in team.instances for copy in each.listeners().values()) == wanted

    eventually(agree, "each instance listens to the copies of its node")
    team.wait_until_ready()


def join(team: Team, number: int) -> Daemon:
    """Let a node join the cluster, with an instance beside it that was there before."""
    newcomer = team.make(number).start()
    eventually(lambda: "does not exist" in str(newcomer.lines("plan")), "it waits for a cluster to join")
    with team.acting.unsettled():
        sim(team).join_node(number)
        team.instances.append(newcomer)
        team.wait_until_settled()
    return newcomer


def test_users_sign_up_while_every_range_is_split(team: Team) -> None:
    """Old ranges and halves overlap for a while; no user is lost, and no database is made twice."""
    sim(team).set_split_delay(0.2)
    with SigningUp(team.target) as signing_up:
        eventually(lambda: len(signing_up.names) >= 20, "some have signed up")
        sim(team).split("_users")
        eventually(lambda: hosts(team, "_users", LOW) == hosts(team, "_users", HIGH) == [], "all copies are split")
        wait_until_listening(team)
    team.wait_until_served(signing_up.names, team.promised_seconds)
    assert set(sim(team).creations().values()) == {1}, "the database of the leases, too"
    team.acting.assert_acted_on_by_one(signing_up.names)


def test_halves_are_followed_long_before_the_next_look(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """From the moment the map changes new documents are in the halves alone; nobody waits for the next look."""
    rarely = {"poll_interval": NEVER_SECONDS, "lease_ttl": 3 * NEVER_SECONDS}
    team = Team(target, make_daemon, {"cluster": rarely}, nodes=(1,))
    sim(team).set_split_delay(None)
    sim(team).split("_users")
    sim(team).release_splits(remove=False)
    names = target.new_names(40)
    target.sign_up(names)
    team.wait_until_served(names)


def test_the_authentication_database_deleted_and_made_again_is_followed(team: Team) -> None:
    """Another database of the same name has other shards; its users are served too, and old users' data stays."""
    before = team.target.new_names(10)
    team.target.sign_up(before)
    team.wait_until_served(before)
    assert team.target.request("DELETE", "/_users").status_code == 200
    eventually(lambda: not any(each.is_ready for each in team.instances), "the instances see that it is gone")
    assert team.target.request("PUT", "/_users").status_code == 201
    after = team.target.new_names(20)
    team.target.sign_up(after)
    team.wait_until_served(after, team.promised_seconds)
    assert team.target.unserved(before) == []
    team.assert_acted_on_by_owners(after)
    team.acting.assert_acted_on_by_one([*before, *after])


def test_an_instance_waits_for_an_authentication_database_that_is_not_there(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """A new cluster may have no such database yet: the daemon reports that, stays up, and begins once it exists."""
    target.request("DELETE", "/_users")
    instance = make_daemon(url=target.urls[0], username=target.username, password=target.password).start()
    eventually(lambda: "does not exist" in str(instance.lines("plan")), "it says what it waits for")
    assert not instance.is_ready
    assert instance.get("/healthz").status_code == 200
    target.request("PUT", "/_users")
    instance.wait_until_ready()


def test_a_copy_built_from_scratch_is_not_taken_for_the_old_one(team: Team) -> None:
    """A checkpoint of the old copy is worthless for the new copy: its sequences begin again."""
    names = team.target.new_names(40)
    team.target.sign_up(names)
    team.wait_until_served(names)
    for covered in (LOW, HIGH):
        sim(team).rebuild_copy(2, "_users", covered)
    later = team.target.new_names(40)
    team.target.sign_up(later)
    team.wait_until_served(later)
    team.acting.assert_acted_on_by_one([*names, *later])


def test_a_node_that_joins_takes_its_part_once_it_has_a_copy(
    with_spare: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Without a copy its instance is ready and has nothing to do; with one it owns documents and acts on them."""
    team = Team(with_spare, make_daemon, nodes=(1, 2, 3))
    with SigningUp(with_spare) as signing_up:
        newcomer = join(team, 4)
        assert "no part" in newcomer.get("/readyz").text
        move(team, "_users", LOW, giver=3, taker=4)
        team.acting.owners_change()
        wait_until_listening(team)
        newcomer.wait_for_total("peruserd_users_provisioned_total", 5)
    team.wait_until_served(signing_up.names, team.promised_seconds)
    later = with_spare.new_names(60)
    with_spare.sign_up(later)
    team.wait_until_served(later)
    assert set(team.owners(later).values()) == set(team.nodes)
    team.assert_acted_on_by_owners(later)
    team.acting.assert_acted_on_by_one([*signing_up.names, *later])


def test_a_node_is_removed_after_its_copies_have_moved_away(
    with_spare: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """Other instances take everything over; the node's own instance still runs, does no harm, and stops on request."""
    team = Team(with_spare, make_daemon, nodes=(1, 2, 3))
    names = with_spare.new_names(20)
    with_spare.sign_up(names)
    team.wait_until_served(names)
    join(team, 4)
    for database in ["_users", *(database_name(PREFIX, name) for name in names)]:
        for covered in sim(team).snapshot_copies(database)["node3@127.0.0.1"]:
            move(team, database, covered, giver=3, taker=4)
    team.acting.owners_change()
    sim(team).leave_node(3)
    removed = team.instances.pop(2)
    team.wait_until_settled()
    later = with_spare.new_names(40)
    with_spare.sign_up(later)
    team.wait_until_served([*names, *later], team.promised_seconds)
    team.assert_acted_on_by_owners(later, [node for node in team.nodes if node != "node3@127.0.0.1"])
    eventually(lambda: not removed.is_ready, "it says that it cannot do its work")
    assert removed.stop() == 0
    team.acting.assert_acted_on_by_one([*names, *later])


def test_users_sign_up_while_shard_copies_move(with_spare: Target, make_daemon: Callable[..., Daemon]) -> None:
    """A new copy is empty and filled late; the earlier owners serve its documents until then."""
    team = Team(with_spare, make_daemon, nodes=(1, 2, 3))
    join(team, 4)
    sim(team).set_replication_delay(0.3)
    with SigningUp(with_spare, nodes=(1, 2, 3, 4)) as signing_up:
        for covered, giver, taker in ((LOW, 3, 4), (HIGH, 1, 4), (LOW, 2, 3), (HIGH, 4, 1)):
            move(team, "_users", covered, giver=giver, taker=taker)
            team.acting.owners_change()
        wait_until_listening(team)
    sim(team).set_replication_delay(0.0)
    team.wait_until_served(signing_up.names, team.promised_seconds)
    later = with_spare.new_names(40)
    with_spare.sign_up(later)
    team.wait_until_served(later)
    team.acting.assert_acted_on_by_one([*signing_up.names, *later])
