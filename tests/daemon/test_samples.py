"""The form of all metrics: only families of the table, only values that their labels list."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from peruserd.core.processes.counters import Counters
from peruserd.couch.errors import CouchError, InterruptedRequestError
from peruserd.daemon.collecting import GuardedCollector
from peruserd.daemon.samples import Part, Samples
from peruserd.monitoring.families import OTHER, Kind, Label, gauge
from peruserd.monitoring.table import FAMILIES, KIND


def sample(name: str, labels: dict[str, str], put: Part) -> float | None:
    """Return the value of a sample after `put` was called at a scrape."""
    registry = CollectorRegistry()
    registry.register(GuardedCollector({"part": put}))
    return registry.get_sample_value(name, labels)


def test_a_family_that_the_table_does_not_name_cannot_be_exported() -> None:
    """Otherwise the documents would miss it."""
    with pytest.raises(KeyError):
        Samples().put("peruserd_invented", 1)


def test_a_value_that_a_label_does_not_list_is_other() -> None:
    """An enemy's words, and kinds of a later version, cannot make a label grow."""

    def put(out: Samples) -> None:
        out.put_counts("peruserd_failures", {"timeout": 2, "org.couchdb.user:eve": 1, "\u202eevil": 3})

    assert sample("peruserd_failures_total", {"kind": "timeout"}, put) == 2
    assert sample("peruserd_failures_total", {"kind": OTHER}, put) == 4
    assert sample("peruserd_failures_total", {"kind": "org.couchdb.user:eve"}, put) is None


def test_what_was_never_counted_is_0() -> None:
    """Without an earlier sample the first failure of a kind would be no increase."""

    def put(out: Samples) -> None:
        out.put_counts("peruserd_failures", Counters().failures)

    assert sample("peruserd_failures_total", {"kind": "no_majority"}, put) == 0


def test_a_value_that_is_not_known_is_no_sample_and_the_help_is_there() -> None:
    """A reader sees that there is such a metric, and that it has no value now."""

    def put(out: Samples) -> None:
        out.put("peruserd_standby", None)

    registry = CollectorRegistry()
    registry.register(GuardedCollector({"part": put}))
    text = generate_latest(registry).decode()
    assert "# HELP peruserd_standby 1 for" in text
    assert "\nperuserd_standby " not in text


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_family_has_the_form_of_prometheus_and_of_the_documents(family: object) -> None:
    """A counter's sample ends in `_total`; a meaning is a sentence; a label is bounded by a list or by its reason."""
    found = FAMILIES[getattr(family, "name", "")]
    assert found.name.startswith("peruserd_")
    assert not found.name.endswith(("_total", "_info", "_count"))
    assert found.meaning.endswith(".")
    assert found.meaning.count(". ") == 0
    for label in found.labels:
        assert bool(label.values) is not bool(label.bounded_by)
        assert len(label.values) == len(set(label.values)) <= 40
    assert found.kind is not Kind.HISTOGRAM or found.unit == "seconds"


def test_a_label_without_a_list_is_as_given() -> None:
    """The copies of an instance are as many as its shard map has."""
    label = Label("listener", bounded_by="the plan")
    assert label.bounded("00000000-ffffffff@n1") == "00000000-ffffffff@n1"
    assert gauge("peruserd_x_ratio", "A part.", label).unit == "ratio"


def test_each_error_of_a_request_has_its_kind_in_the_list() -> None:
    """A kind of failure that is added later must be listed, or it would be counted as other."""

    def kinds(error: type[CouchError]) -> set[str]:
        return {error.kind}.union(*map(kinds, error.__subclasses__()))

    # A request that this process has interrupted is no failure, and the plain error is raised nowhere.
    of_couch = {each for each in kinds(CouchError) if each not in (InterruptedRequestError.kind, CouchError.kind)}
    of_starts = {"foreign_database", "no_shards", "nodes_hidden", "slashes_lost"}
    assert of_couch - of_starts <= set(KIND.values)
