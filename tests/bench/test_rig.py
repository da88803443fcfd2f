"""The parts that benchmarks share: the cluster that is clean again afterwards, the watch, the sign-ups' other side."""

from collections.abc import Iterator
from unittest import mock

import pytest

from bench import __main__ as bench
from bench.rig.bare import Bare
from bench.rig.cluster import Cluster, ClusterError, open_cluster
from bench.rig.contenders import BARE, BUILTIN, PERUSERD, available, rotated
from bench.rig.leaving import Leaving
from bench.rig.watching import Watch
from peruserd.core.common.names import database_name, user_document_id
from peruserd.core.users.security import first
from peruserd.simcluster import ClusterOptions, SimClusterProcess
from tests.waiting import eventually


@pytest.fixture(scope="module")
def sim() -> Iterator[SimClusterProcess]:
    """A simulated cluster of three nodes."""
    with SimClusterProcess(ClusterOptions()) as running:
        yield running


@pytest.fixture
def cluster(sim: SimClusterProcess) -> Cluster:
    """The same as a benchmark sees a cluster that it was given; a simulated one needs no rest."""
    return Cluster(sim.urls, rest_seconds=0.0)


def test_what_was_made_is_removed_and_nothing_else(sim: SimClusterProcess, cluster: Cluster) -> None:
    """Users and databases of a run are gone after it, also where it failed; others' are as they were."""
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


def test_no_two_runs_make_users_of_the_same_name(cluster: Cluster, sim: SimClusterProcess) -> None:
    """So one run cannot take what another one left for its own."""
    assert not set(cluster.new_names(10)) & set(cluster.new_names(10))
    assert not set(cluster.new_names(10)) & set(Cluster(sim.urls).new_names(10))


def test_a_user_is_not_served_while_a_stranger_is_let_in(cluster: Cluster) -> None:
    """Neither for the cluster nor for the watch, so no benchmark counts what is wrong; the other user is served."""
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
    """A user whose database is there and open to others is not served yet."""
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


def test_who_was_served_leaves_again_and_who_was_not_stays(cluster: Cluster) -> None:
    """Neither document nor database is left of them, and the watch goes on to know when they were served."""
    leaver, waiting = cluster.new_names(2)
    cluster.sign_up([leaver, waiting])
    with Watch(cluster) as watch, Leaving(cluster, watch, stay=0.0, rate=1_000.0) as leaving:
        Bare(cluster).serve(leaver, 0)
        eventually(lambda: leaver in leaving.gone, "the first to leave")
        assert leaver in watch.served
        assert waiting not in leaving.gone
    assert cluster.request("GET", f"/{database_name('userdb-', leaver)}").status_code == 404
    rows = cluster.ask("/_users/_all_docs")["rows"]
    ids = {row["id"] for row in rows}
    assert user_document_id(leaver) not in ids
    assert user_document_id(waiting) in ids
    cluster.clean()


def test_nobody_leaves_before_their_time(cluster: Cluster) -> None:
    """A user who was served just now stays."""
    (name,) = cluster.new_names(1)
    with Watch(cluster) as watch, Leaving(cluster, watch, stay=3_600.0, rate=1_000.0) as leaving:
        Bare(cluster).serve(name, 0)
        assert watch.wait_for({name}, 60.0) == set()
    assert not leaving.gone
    assert cluster.is_served(name)
    cluster.clean()


def test_a_user_document_that_cannot_be_purged_is_an_error(cluster: Cluster, sim: SimClusterProcess) -> None:
    """It is not deleted instead: a tombstone without a database stops couch_peruser for good."""
    (name,) = cluster.new_names(1)
    cluster.sign_up([name])
    sim.fail(1, 500, count=1, path_regex="/_purge")
    with pytest.raises(ClusterError, match="cannot be purged: 500"):
        cluster.remove(name)
    assert not [row for row in cluster.ask("/_users/_changes")["results"] if row.get("deleted")]
    cluster.clean()


def test_a_user_who_cannot_be_removed_ends_the_benchmark() -> None:
    """A cluster that fills up all the same would be measured unawares."""
    stub = mock.Mock(spec=Cluster)
    stub.remove.side_effect = ClusterError("the database cannot be deleted")
    with (
        pytest.raises(ClusterError, match="cannot be deleted"),
        Leaving(stub, mock.Mock(spec=Watch, served={"a": 0.0}), stay=0.0, rate=1_000.0),
    ):
        eventually(lambda: stub.remove.called, "somebody to be removed")


def test_every_round_begins_with_another_contender() -> None:
    """The first contender meets a cluster that has just been cleaned; it must not always be the same."""
    assert [rotated([BARE, PERUSERD, BUILTIN], number)[0] for number in range(4)] == [BARE, PERUSERD, BUILTIN, BARE]


def test_the_couch_peruser_of_a_simulated_cluster_is_not_measured() -> None:
    """It has the rules of the real one, and not its speed."""
    with open_cluster(()) as simulated:
        assert available(simulated, [PERUSERD, BUILTIN]) == [PERUSERD]


@pytest.mark.parametrize("provisioned_prefix", ["userdb-", None], ids=["databases", "documents"])
def test_a_cluster_that_is_in_use_is_not_loaded_unasked(
    provisioned_prefix: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody's users are named as the reason, and `--yes` as the way to do it all the same; nothing was run."""
    monkeypatch.setattr(bench, "BENCHMARKS", {"provision": lambda _: pytest.fail("it was run")})
    with SimClusterProcess(ClusterOptions(nodes=1, n=1)) as used:
        used.seed_users(2, "somebody", provisioned_prefix=provisioned_prefix)
        assert bench.main(["provision", "--cluster", used.urls[0]]) == 1
    said = capsys.readouterr().err
    assert "3 documents in _users" in said
    assert "--yes" in said
    assert "adm:pass" not in said


def test_an_unknown_benchmark_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen does not start ten minutes of something else."""
    with pytest.raises(SystemExit) as ended:
        bench.main(["provison"])
    assert ended.value.code == 2
    assert "there are provision, latency" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_reached_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence, without a traceback."""
    assert bench.main(["provision", "--cluster", "http://adm:pass@127.0.0.1:1"]) == 1
    assert "bench: GET /_node/_local: " in capsys.readouterr().err
