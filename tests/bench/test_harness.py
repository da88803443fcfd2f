"""The parts that benchmarks share: the cluster, the watch, departures, contenders, and the command line."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest

from bench import __main__ as bench
from bench.harness import builtin
from bench.harness import daemons as daemons_module
from bench.harness.bare import Bare
from bench.harness.cluster import Cluster, ClusterError, open_cluster
from bench.harness.contenders import BARE, BUILTIN, PERUSERD, available, rotated
from bench.harness.departures import Departures
from bench.harness.watch import Watch
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.users.security import first
from peruserd.demo.instances import InstanceFailedError
from peruserd.simcluster import ClusterOptions, SimClusterProcess
from tests import with_rich
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture(scope="module")
def sim() -> Iterator[SimClusterProcess]:
    """A simulated cluster of three nodes."""
    with SimClusterProcess(ClusterOptions()) as running:
        yield running


@pytest.fixture
def cluster(sim: SimClusterProcess) -> Cluster:
    """Return the same as a given cluster, but without the rest that a real one needs."""
    return Cluster(sim.urls, rest_seconds=0.0)


def test_what_was_made_is_removed_and_nothing_else(sim: SimClusterProcess, cluster: Cluster) -> None:
    """Users and databases of a run are gone after it, even if it failed. All others are as before."""
    sim.seed_users(3, "somebody", provisioned_prefix="userdb-")
    before = sim.databases()
    with pytest.raises(RuntimeError, match="halfway"):
        _fail_halfway(sim.urls)
    assert sim.databases() == before
    rows = cluster.ask("/_users/_all_docs")["rows"]
    assert sorted(row["id"] for row in rows if not row["id"].startswith("_")) == [
        user_document_id(f"somebody{number:06}") for number in range(3)
    ]


def _fail_halfway(urls: list[str]) -> None:
    with open_cluster(urls, rest_seconds=0.0) as opened:
        names = opened.new_names(5)
        opened.sign_up(names)
        Bare(opened).serve_all([names[:4]], in_flight=2)
        assert opened.unserved(names) == names[4:]
        raise RuntimeError("halfway")


def test_a_clean_up_that_is_interrupted_is_completed_by_the_next_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run cleans the cluster between its turns and at its end, and ^C can come at any moment."""
    names = cluster.new_names(2)
    cluster.sign_up(names)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(cluster, "_purge", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            cluster.clean()
    cluster.clean()
    left = {row["id"] for row in cluster.ask("/_users/_all_docs")["rows"]}
    assert not left & set(map(user_document_id, names))


def test_no_two_runs_make_users_of_the_same_name(cluster: Cluster, sim: SimClusterProcess) -> None:
    """So a run never takes the leftovers of another one for its own users."""
    assert not set(cluster.new_names(10)) & set(cluster.new_names(10))
    assert not set(cluster.new_names(10)) & set(Cluster(sim.urls).new_names(10))


def test_a_user_is_not_served_while_a_stranger_is_let_in(cluster: Cluster) -> None:
    """The cluster and the watch agree on that, so no benchmark counts such a user. The other user is served."""
    names = cluster.new_names(2)
    with Watch(cluster) as watch:
        for name in names:
            Bare(cluster).serve(name, 0)
            assert cluster.is_served(name)
        watch.wait_for(set(names), 60.0)
    shared = first(names[0])
    shared["members"]["names"].append("mallory")
    path = f"/{database_name('userdb-', names[0])}/_security"
    assert cluster.request("PUT", path, json=shared).status_code == 200
    assert cluster.unserved(names) == names[:1]
    assert [each for each in names if Watch(cluster)._is_served(cluster.another_session(), each)] == names[1:]
    cluster.clean()


def test_a_watch_sees_when_a_database_is_secured_not_when_it_is_made(cluster: Cluster) -> None:
    """A user whose database is there, but open to others, is not served yet."""
    made, served = cluster.new_names(2)
    with Watch(cluster) as watch:
        cluster.request("PUT", f"/{database_name('userdb-', made)}?q=1").raise_for_status()
        Bare(cluster).serve(served, 0)
        assert watch.wait_for({served}, 60.0) == set()
        assert watch.wait_for({made}, 0.05) == {made}
        names = {"names": [made]}
        cluster.request(
            "PUT", f"/{database_name('userdb-', made)}/_security", json={"admins": names, "members": names}
        ).raise_for_status()
        assert watch.wait_for({made}, 60.0) == set()
    cluster.clean()


def test_a_served_user_leaves_again_and_an_unserved_one_stays(cluster: Cluster) -> None:
    """Neither document nor database is left, and the watch still knows when the user was served."""
    leaver, waiting = cluster.new_names(2)
    cluster.sign_up([leaver, waiting])
    with Watch(cluster) as watch, Departures(cluster, watch, stay=0.0, rate=1_000.0) as departures:
        Bare(cluster).serve(leaver, 0)
        eventually(lambda: leaver in departures.gone, "the first to leave")
        assert leaver in watch.served
        assert waiting not in departures.gone
    assert cluster.request("GET", f"/{database_name('userdb-', leaver)}").status_code == 404
    rows = cluster.ask("/_users/_all_docs")["rows"]
    ids = {row["id"] for row in rows}
    assert user_document_id(leaver) not in ids
    assert user_document_id(waiting) in ids
    cluster.clean()


def test_no_user_leaves_early(cluster: Cluster) -> None:
    """A user who was served just now stays."""
    (name,) = cluster.new_names(1)
    with Watch(cluster) as watch, Departures(cluster, watch, stay=3_600.0, rate=1_000.0) as departures:
        Bare(cluster).serve(name, 0)
        assert watch.wait_for({name}, 60.0) == set()
    assert not departures.gone
    assert cluster.is_served(name)
    cluster.clean()


def test_a_user_document_that_cannot_be_purged_is_an_error(cluster: Cluster, sim: SimClusterProcess) -> None:
    """The document is not deleted instead, because a tombstone without a database stops couch_peruser for good."""
    (name,) = cluster.new_names(1)
    cluster.sign_up([name])
    sim.fail(1, 500, count=1, path_regex="/_purge")
    with pytest.raises(ClusterError, match="cannot be purged: 500"):
        cluster.remove(name)
    assert not [row for row in cluster.ask("/_users/_changes")["results"] if row.get("deleted")]
    cluster.clean()


def test_a_user_who_cannot_be_removed_ends_the_benchmark() -> None:
    """Otherwise a cluster that fills up would be measured without a word."""
    stub = mock.Mock(spec=Cluster)
    stub.remove.side_effect = ClusterError("the database cannot be deleted")
    with (
        pytest.raises(ClusterError, match="cannot be deleted"),
        Departures(stub, mock.Mock(spec=Watch, served={"a": 0.0}), stay=0.0, rate=1_000.0),
    ):
        eventually(lambda: stub.remove.called, "somebody to be removed")


def test_every_round_begins_with_another_contender() -> None:
    """The first contender finds a cluster that was just cleaned, so it must not always be the same one."""
    assert [rotated([BARE, PERUSERD, BUILTIN], number)[0] for number in range(4)] == [BARE, PERUSERD, BUILTIN, BARE]


def test_couch_peruser_is_switched_off_again_wherever_that_can_be_done(
    sim: SimClusterProcess, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One node that does not answer then keeps no other node from its settings of before."""
    monkeypatch.setattr(builtin, "_START_SECONDS", 0.0)
    monkeypatch.setattr(builtin, "_STOP_SECONDS", 0.0)
    path = "/_node/_local/_config/couch_peruser"
    cluster.request("PUT", f"{path}/q", node=2, json="7")
    before = [cluster.ask(path, node=number) for number in range(3)]
    try:
        with pytest.raises(ClusterError, match="couch_peruser"):
            _lose_a_node_meanwhile(sim, cluster)
        sim.clear_faults()
        assert [cluster.ask(path, node=number) for number in (1, 2)] == before[1:]
    finally:
        sim.clear_faults()
        sim.set_peruser(on=False)


def _lose_a_node_meanwhile(sim: SimClusterProcess, cluster: Cluster) -> None:
    with builtin.switched_on(cluster):
        settings = [cluster.ask("/_node/_local/_config/couch_peruser", node=number) for number in range(3)]
        assert [each["enable"] for each in settings] == ["true"] * 3
        sim.fail(1, "cut", path_regex="couch_peruser")


def test_the_couch_peruser_of_a_simulated_cluster_is_not_measured(sim: SimClusterProcess) -> None:
    """The simulated one has the rules of the real one, and not its speed."""
    assert available(Cluster(sim.urls, sim), [PERUSERD, BUILTIN]) == [PERUSERD]


@pytest.mark.parametrize("provisioned_prefix", ["userdb-", None], ids=["databases", "documents"])
def test_a_cluster_that_is_in_use_is_not_loaded_unasked(
    provisioned_prefix: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason names the users who are there, and `--yes` as the way to do it all the same. Nothing was run."""
    run = mock.Mock(course=lambda _: pytest.fail("it was run"))
    monkeypatch.setattr(bench, "BENCHMARKS", {"provision": run})
    with SimClusterProcess(ClusterOptions(nodes=1, n=1)) as used:
        used.seed_users(2, "somebody", provisioned_prefix=provisioned_prefix)
        assert bench.main(["provision", "--cluster", used.urls[0]]) == 1
    said = capsys.readouterr().err
    assert "3 documents in _users" in said
    assert "--yes" in said
    assert "adm:pass" not in said


def test_an_unknown_benchmark_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error does not start ten minutes of something else."""
    with pytest.raises(SystemExit) as ended:
        bench.main(["provison"])
    assert ended.value.code == 2
    assert "there are provision, latency" in capsys.readouterr().err


def test_a_run_that_is_terminated_stops_its_instances() -> None:
    """SIGTERM, as of a time limit, ends a run as ^C does: no process is left."""
    arguments = [sys.executable, "-m", "bench", "idle", "--quick"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=with_rich.environment()) as running:
        assert running.stderr is not None
        own, processes = psutil.Process(running.pid), list[psutil.Process]()
        try:
            eventually(lambda: any(each.cmdline()[-1:] == ["run"] for each in own.children()), "an instance to start")
            processes = own.children(recursive=True)
            running.send_signal(signal.SIGTERM)
            assert "interrupted; everything that it had made is removed" in running.stderr.read()
            assert running.wait(PATIENCE_SECONDS) == 130
            _, alive = psutil.wait_procs(processes, PATIENCE_SECONDS)
            assert not alive
        finally:
            for each in (own, *processes):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def test_a_loop_of_bare_requests_ends_where_users_cannot_sign_up() -> None:
    """Its threads wait for users, and no user comes after the error."""

    def groups() -> Iterator[list[str]]:
        yield []
        raise ClusterError("user documents cannot be written")

    with pytest.raises(ClusterError, match="cannot be written"):
        Bare(mock.Mock()).serve_all(groups(), 2)


def test_an_instance_is_stopped_where_the_next_one_cannot_be_started(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else would stop it, because each instance has a session of its own."""
    started = mock.Mock()
    monkeypatch.setattr(daemons_module, "Instance", mock.Mock(side_effect=[started, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt), daemons_module.daemons(cluster) as instances:
        instances.start()
    started.terminate.assert_called_once_with()
    started.wait.assert_called_once_with()


def test_an_instance_that_fails_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The message has the last lines of its log, and no traceback of the benchmark."""
    failed = InstanceFailedError("node1@127.0.0.1 ended with 75:\nthe last line")
    monkeypatch.setattr(daemons_module, "Instance", mock.Mock(side_effect=failed))
    assert bench.main(["idle", "--quick", "--out", str(tmp_path)]) == 1
    assert f"bench: {failed}\n" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_reached_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    """The message is one sentence, without a traceback."""
    assert bench.main(["provision", "--cluster", "http://adm:pass@127.0.0.1:1"]) == 1
    assert "bench: GET /_node/_local: " in capsys.readouterr().err
