"""The benchmark `filling`: its sums, and one small run. No test looks at the time that something took."""

from unittest import mock

import pytest

from bench import filling
from bench.benchmark import Options, run
from bench.filling import Sample
from bench.harness.arrivals import Arrivals, arrive
from bench.harness.cluster import Cluster, ClusterError, open_cluster
from bench.harness.contenders import BARE, PERUSERD


def test_each_contender_is_compared_with_itself() -> None:
    """The ratio is of the median on the fullest cluster to that on the emptiest one."""
    samples = [
        Sample(BARE, 0, [10.0, 20.0, 90.0]),
        Sample(PERUSERD, 44, [30.0]),
        Sample(PERUSERD, 500, [45.0]),
        Sample(BARE, 544, [50.0]),
    ]
    found = {name: each.values for name, each in filling.figures(samples).items()}
    assert found == {
        "p50 on the fullest cluster / on the emptiest, bare": pytest.approx((2.5,)),
        "p50 on the fullest cluster / on the emptiest, peruserd": pytest.approx((1.5,)),
    }


def test_a_user_who_is_not_served_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster would look fast if a latency were left out."""
    monkeypatch.setattr(filling, "arrive", lambda *_, **__: Arrivals([1.0], unserved=2, refused=3))
    with pytest.raises(ClusterError, match="3 users could not sign up, 2 were not served"):
        filling._latencies(mock.Mock(spec=Cluster), PERUSERD, filling.QUICK, 6)


def test_a_user_who_waits_in_vain_has_no_latency() -> None:
    """Such a user is counted instead. Here no contender serves."""
    with open_cluster(()) as cluster:
        assert arrive(cluster, 3, rate=100.0, patience_seconds=0.1, lead_seconds=0.01) == Arrivals(
            [], unserved=3, refused=0
        )


def test_a_quick_run_fills_the_cluster_and_serves_everybody() -> None:
    """On a simulated cluster the sizes grow by the databases that were filled in, and by the users who signed up."""
    result = run("filling", filling, Options(quick=True))
    blocks: list[Sample] = result.samples
    assert [(each.contender, each.databases) for each in blocks] == [
        (BARE, 0),
        (PERUSERD, 10),
        (PERUSERD, 50),
        (BARE, 60),
    ]
    assert all(len(each.latencies_ms) == filling.QUICK.users for each in blocks)
    assert "| databases" in result.text()
    assert result.report.charts[0].lines.keys() == {BARE, PERUSERD}
