"""The benchmark `scale`: its computations. Nothing is timed, and no cluster is run."""

from pathlib import Path

import msgspec
import pytest

from bench.results import Chart, Report, Result, Table
from bench.scale.layouts import Layout
from bench.scale.movement import couch_peruser_rule, lose_one, peruserd_rule, user_documents
from bench.scale.traffic import Count, computed
from peruserd.core.configuration.config import ClusterConfig

LAYOUTS = [
    pytest.param(layout, id=f"{layout.nodes}-nodes-{layout.copies_made}-copies")
    for layout in (Layout(3, 8), Layout(5, 8), Layout(50, 64), Layout(10, 2, copies=10), Layout(50, 2, copies=50))
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loss_moves_only_the_lost_ones_documents(layout: Layout) -> None:
    """By peruserd's rule only documents of the lost instance move. By couch_peruser's rule, others do too."""
    for lost in (layout.names[0], layout.names[-1]):
        loss = lose_one(layout, lost, user_documents(1_000))
        assert loss.peruserd.lost == loss.couch_peruser.lost > 0
        assert loss.peruserd.needless == 0
        assert loss.couch_peruser.needless > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_healthy_owners_are_the_same_by_both_rules(layout: Layout) -> None:
    """With every instance alive the two rules agree, so their losses can be compared."""
    ours, theirs = (rule(layout.shard_map(), frozenset(layout.names)) for rule in (peruserd_rule, couch_peruser_rule))
    documents = user_documents(500)
    assert [ours(each) for each in documents] == [theirs(each) for each in documents]


def test_of_two_instances_the_other_takes_all() -> None:
    """With two nodes there is no choice, so both rules move the same documents."""
    loss = lose_one(Layout(2, 8), "couchdb@node-001.example", user_documents(500))
    assert loss.peruserd == loss.couch_peruser


def test_copies_are_dealt_out_evenly() -> None:
    """Each node of a layout hosts the same number of copies, give or take one, and each range has all of its copies."""
    shard_map = Layout(100, 1024).shard_map()
    assert {len(nodes) for nodes in shard_map.hosts.values()} == {3}
    hosted = [sum(name in nodes for nodes in shard_map.hosts.values()) for name in Layout(100, 1024).names]
    assert max(hosted) - min(hosted) <= 1


def test_idle_traffic_follows_from_the_intervals() -> None:
    """Neither ranges nor nodes change the number of readings and renewals. Feeds grow with an instance's listeners.

    The copies of the database of the leases are looked at now and then, and there are five at most.
    """
    cluster = ClusterConfig(poll_interval=2.0, lease_interval=5.0)
    small, large = computed(Layout(3, 8), cluster), computed(Layout(6, 8), cluster)
    assert small["membership"] == small["encoded slashes"] == 30.0
    assert (small["shard map"], large["shard map"]) == (30.3, 30.5)
    assert small["lease written"] == small["maintenance"] == 12.0
    assert (small["long poll"], large["long poll"]) == (8 * 2.4, 4 * 2.4)
    by_copies = {"shard map", "which copy", "lease copies"}
    assert {name for name in small if small[name] != large[name]} == {"long poll", "which history", *by_copies}
    largest = computed(Layout(100, 1024), cluster)
    assert {name for name in largest if largest[name] != large[name]} == {"long poll", "which copy", "which history"}
    assert largest["which copy"] - largest["long poll"] == pytest.approx(0.5)


def test_counted_requests_are_sorted_by_what_they_ask() -> None:
    """The counts of all instances become a mean of one instance a minute. Unexpected requests are not hidden."""
    counted = [
        ("node1", "GET", "membership", 30),
        ("node1", "PUT", "local", 6),
        ("node2", "PUT", "local", 6),
        ("node1", "GET", "local_docs", 30),
        ("node2", "GET", "local_docs", 12),
        ("node2", "GET", "security", 3),
    ]
    found = Count(Layout(2, 2), 30.0, counted).per_minute
    assert {name: number for name, number in found.items() if number} == {
        "membership": 30.0,
        "leases read": 42.0,
        "lease written": 12.0,
        "other": 3.0,
    }
    assert set(found) == set(computed(Layout(2, 2), ClusterConfig()))


def test_results_are_written_with_every_sample(tmp_path: Path) -> None:
    """The JSON file has parameters, samples and the machine. The picture is a PNG, and the text a Markdown table."""
    result = Result(
        name="example",
        parameters={"n": 3},
        samples=[1.5, 2.5],
        report=Report(
            (Table("A title", ("name", "n"), (("long name", "3"),)),),
            (Chart("one", "x", "y", {"line": [(1.0, 2.0), (2.0, 4.0)]}, limit=3.0, logarithmic=True),),
        ),
    )
    written = msgspec.json.decode(result.write_json(tmp_path / "made").read_bytes())
    assert written["samples"] == [1.5, 2.5]
    assert set(written["measured_on"]) >= {"cores", "processor", "python", "libraries"}
    assert result.write_chart(tmp_path).read_bytes().startswith(b"\x89PNG")
    assert result.text().splitlines()[2:] == ["| name      | n |", "| --------- | - |", "| long name | 3 |"]
