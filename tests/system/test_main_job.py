"""The main job with real processes, on the simulated cluster or the real one given by PERUSERD_TEST_CLUSTER."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from peruserd.core.common.names import database_name
from peruserd.core.users.security import is_public
from peruserd.simcluster import ClusterOptions
from tests.system.daemon import Daemon
from tests.system.signing_up import SigningUp
from tests.system.target import PREFIX, Target, open_target
from tests.system.team import Team
from tests.waiting import eventually


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a cluster of three nodes."""
    with open_target(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def _has_ended(instance: Daemon) -> bool:
    return not instance.processes()


def test_users_loaded_at_once_are_each_served_by_one_instance(team: Team) -> None:
    """Every database exists and is right, and the instances together created each once."""
    before = team.total("peruserd_databases_created_total")
    names = team.target.new_names(300)
    team.target.sign_up(names)
    team.wait_until_served(names)
    # Reports come a moment after the work. A second creation would stay visible.
    eventually(
        lambda: team.total("peruserd_databases_created_total") - before >= len(names), "every creation is counted"
    )
    assert team.total("peruserd_databases_created_total") - before == len(names)
    shares = [each.metrics().total("peruserd_changes_owned_total") for each in team.instances]
    assert all(shares), "every instance owns a part"


def test_names_of_every_kind_are_served(team: Team) -> None:
    """Any Unicode name has its own database; a name that is too long is counted, kept nowhere, and delays nobody."""
    group = team.target.new_names(1)[0]
    names = [f"{group}{odd}" for odd in ("", "é", "片名", "a/b", "with space", "+&?#%", "\x01", '"', "A")]
    too_long = group + "x" * 115
    team.target.sign_up([*names, too_long])
    team.wait_until_served(names)
    eventually(lambda: team.total("peruserd_failures_total", kind="unservable_name") >= 1, "the long name is counted")
    assert team.total("peruserd_quarantined_users") == 0


def test_a_deleted_user_loses_access_and_a_returning_one_regains_it(team: Team) -> None:
    """The default on deletion: the name is taken out, the database stays, and is never public."""
    (name,) = names = team.target.new_names(1)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.target.delete_user(name)

    def revoked() -> bool:
        found = team.target.security(name)
        assert found is not None
        assert not is_public(found)
        return name not in str(found)

    eventually(revoked, "the user's access is revoked")
    team.target.sign_up(names)
    team.wait_until_served(names)


def test_no_user_is_lost_when_listeners_are_killed_at_any_moment(team: Team) -> None:
    """Listeners die by SIGKILL while users sign up; each comes back, and every user is served in the end."""
    names = team.target.new_names(400)
    chance = random.Random(11)
    with SigningUp(team.target, names):
        for _ in range(6):
            time.sleep(chance.uniform(0.1, 0.6))
            instance = chance.choice(team.instances)
            if listeners := sorted(instance.listeners()):
                instance.signal_listener(chance.choice(listeners), signal.SIGKILL)
    team.wait_until_served(names)
    team.wait_until_ready()
    assert team.total("peruserd_listener_restarts_total") >= 1


def test_no_user_is_lost_when_supervisors_are_killed_at_any_moment(team: Team) -> None:
    """A supervisor dies by SIGKILL: its listeners end by themselves, and once it is back every user is served."""
    names = team.target.new_names(400)
    chance = random.Random(12)
    with SigningUp(team.target, names):
        for _ in range(3):
            time.sleep(chance.uniform(0.1, 0.8))
            instance = chance.choice(team.instances)
            instance.kill()
            eventually(partial(_has_ended, instance), "no process outlives its supervisor")
            instance.start()
    team.wait_until_served(names)


def test_sigterm_ends_an_instance_in_the_middle_of_its_work_and_a_start_goes_on(team: Team) -> None:
    """A stopped instance exits 0 and leaves no process; a new start serves the users who signed up meanwhile."""
    names = team.target.new_names(300)
    team.target.sign_up(names)
    for each in team.instances:
        assert each.stop() == 0
        # The helpers of multiprocess end by themselves a moment later, once they see the supervisor gone.
        eventually(partial(_has_ended, each), "no process is left")
    later = team.target.new_names(20)
    team.target.sign_up(later)
    for each in team.instances:
        each.start()
    team.wait_until_served(names + later)


def test_a_second_start_touches_nobody(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """An instance that restarts within the quiet period has its checkpoints, and creates and serves nothing again.

    A database from the last moment before the stop may be news on the list of databases, and is looked at.
    """
    team = Team(target, make_daemon, {"cluster": {"quiet_period": 10.0}})
    names = team.target.new_names(30)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.wait_until_settled()
    for each in team.instances:
        each.stop()
        each.start()
        each.wait_until_ready()
    for reason in ("live", "scan", "retry", "review"):
        assert team.total("peruserd_looks_total", reason=reason) == 0
    assert team.total("peruserd_databases_created_total") == 0


def test_a_start_of_all_at_once_touches_nobody(target: Target, make_daemon: Callable[..., Daemon]) -> None:
    """Each instance starts before it sees the others, and takes nothing over from them.

    All have marked their last leases as released, and that is no reason for a scan.
    """
    team = Team(target, make_daemon, {"cluster": {"quiet_period": 30.0}})
    names = team.target.new_names(60)
    team.target.sign_up(names)
    team.wait_until_served(names)
    team.wait_until_settled()
    for each in team.instances:
        each.stop()
        # Only the second start is tested, and takes as long as at a user's.
        each.anew = True
    later = team.target.new_names(10)
    team.target.sign_up(later)
    for each in team.instances:
        each.launch()
    for each in team.instances:
        each.wait_until_started()
    team.wait_until_served(later)
    team.wait_until_settled()
    eventually(lambda: team.total("peruserd_users_provisioned_total") >= len(later), "everything done is counted")
    assert team.total("peruserd_users_provisioned_total") == len(later)
    assert team.total("peruserd_changes_owned_total") == len(later)


def test_an_instance_that_starts_alone_serves_all_after_the_quiet_period(
    target: Target, make_daemon: Callable[..., Daemon]
) -> None:
    """If expected instances do not come, the new one takes their users over, and only then is it ready."""
    names = target.new_names(60)
    target.sign_up(names)
    alone = Team(target, make_daemon, {"cluster": {"quiet_period": 1.0}}, nodes=[1])
    alone.wait_until_served(names)
    eventually(lambda: alone.total("peruserd_users_provisioned_total") >= len(names), "everything done is counted")
    # A real cluster may have users of its own.
    made = [line["database"] for line in alone.instances[0].lines("audit") if line["action"] == "create"]
    for name in names:
        assert made.count(database_name(PREFIX, name)) == 1
    assert alone.instances[0].gauge("peruserd_instances_alive") == 1


@pytest.mark.anew
def test_the_password_is_nowhere_to_be_read(team: Team) -> None:
    """Not on a command line, not in a log line, not in a state file."""
    names = team.target.new_names(5)
    team.target.sign_up(names)
    team.wait_until_served(names)
    secret = team.target.password
    marked = f":{secret}@", f'"{secret}"', f"'{secret}'"
    for each in team.instances:
        for process in each.processes():
            assert not any(secret in word.split("/") for word in process.cmdline())
        each.stop()
        log = each.log_file.read_text()
        assert not any(mark in log for mark in marked)
        for file in filter(Path.is_file, each.state.iterdir()):
            assert not any(mark.encode() in file.read_bytes() for mark in marked)
