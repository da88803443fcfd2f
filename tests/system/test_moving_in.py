"""Moving from couch_peruser to peruserd by the order that `peruserd migrate` prints."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peruserd.core.common.names import database_name
from peruserd.simcluster import ClusterOptions
from peruserd.simcluster.events.couch_peruser import database_of
from tests.cli.running import peruserd
from tests.system.daemon import Daemon
from tests.system.target import PREFIX, Target, open_simulated
from tests.system.team import Team
from tests.waiting import eventually, eventually_each

pytestmark = pytest.mark.processes


@pytest.fixture
def target() -> Iterator[Target]:
    """Give a simulated cluster of three nodes."""
    with open_simulated(ClusterOptions(nodes=3, q=2, n=3)) as opened:
        yield opened


def _has(target: Target, name: str, database: str) -> bool:
    assert target.sim is not None
    by_node = target.sim.snapshot_security(database) if database in target.sim.databases() else {}
    copies = [each for copies in by_node.values() for each in copies.values()]
    return bool(copies) and all(name in each.get("members", {}).get("names", []) for each in copies)


def test_nobody_is_served_twice_and_nobody_is_forgotten(
    target: Target, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """couch_peruser is off before peruserd is on; the first start finds sign-ups and deletions in between."""
    sim = target.sim
    assert sim is not None
    names = [*target.new_names(3), "tab\tone"]
    target.sign_up(names)
    sim.set_peruser(on=True)
    eventually_each(names, lambda name: _has(target, name, database_of(PREFIX, name)), "couch_peruser has served all")
    config = tmp_path / "first.toml"
    url = target.urls[0].replace("http://", f"http://{target.username}:{target.password}@")
    config.write_text(f'[couchdb]\nurl = "{url}"\n[state]\ndirectory = "{tmp_path}/none"\n')
    moved = json.loads(peruserd("migrate", "--json", "--config", str(config)).stdout)
    sim.set_peruser(on=False)
    late, gone = target.new_names(1)[0], names[0]
    target.sign_up([late])
    target.delete_user(gone)

    printed = tomllib.loads(moved["configuration"])
    team = Team(target, make_daemon, {table: printed[table] for table in ("databases", "deletion")}, nodes=[1])
    served = [*names[1:], late]
    eventually_each(served, lambda name: _has(target, name, database_name(PREFIX, name)), "peruserd has served all")
    eventually(lambda: not _has(target, gone, database_name(PREFIX, gone)), "access was taken away")
    team.wait_until_settled()
    made = {name: count for name, count in sim.creations().items() if name.startswith(PREFIX)}
    # The databases of couch_peruser are not among them.
    assert made == dict.fromkeys([database_name(PREFIX, name) for name in ("tab\tone", late)], 1)
    assert not sim.deletions()
    checked = peruserd("migrate", "--check", "--json", "--config", str(config))
    assert checked.returncode == 1
    assert [each["kind"] for each in json.loads(checked.stdout)["differs"]] == ["unpadded"]
