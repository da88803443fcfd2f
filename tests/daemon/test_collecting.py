"""Metrics of which a part cannot be collected, or cannot be written."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from structlog.testing import capture_logs

from peruserd.daemon.collecting import Encode, Exposition, GuardedCollector, Source
from peruserd.daemon.http import registry_of
from peruserd.daemon.samples import Samples


class Failing:
    """A part that fails while it should, after its first sample."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    def __call__(self, out: Samples) -> None:
        out.put("peruserd_nodes_connected", 1)
        if self.error is not None:
            raise self.error
        out.put("peruserd_instances_alive", 2)


def sound(out: Samples) -> None:
    """Put a sample."""
    out.put("peruserd_ready", 3)


def source() -> Iterator[Metric]:
    """Return a family, as a library's collector does."""
    yield GaugeMetricFamily("python_sound", "Sound.", value=3)


def immediately() -> Iterator[Metric]:
    """Fail before anything is returned, as a function that is no generator does."""
    raise ProcessLookupError(3, "No such process")


def collected(collector: GuardedCollector) -> str:
    """Return the result of a scrape."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    "error", [ProcessLookupError(3, "No such process"), KeyError("gone"), RuntimeError("changed size")], ids=repr
)
def test_a_part_that_fails_is_left_out_and_the_others_are_served(error: Exception) -> None:
    """A process that has just ended, for example, takes only its own metrics along."""
    failing = Failing(error)
    collector = GuardedCollector({"failing": failing, "sound": sound}, {"at_once": immediately, "source": source})
    text = collected(collector)
    assert "\nperuserd_nodes_connected 1.0" in text
    assert "\nperuserd_instances_alive " not in text
    assert "\nperuserd_ready 3.0" in text
    assert "\npython_sound 3.0" in text
    assert 'peruserd_collector_failures_total{part="failing"} 1.0' in text
    assert 'peruserd_collector_failures_total{part="at_once"} 1.0' in text
    assert 'peruserd_collector_failures_total{part="sound"} 0.0' in text


def test_a_failure_is_logged_once_with_its_traceback_and_so_is_its_end() -> None:
    """A scrape comes every few seconds, and must not fill the log."""
    failing = Failing(ValueError("broken"))
    collector = GuardedCollector({"failing": failing})
    with capture_logs() as logged:
        collected(collector)
        collected(collector)
        failing.error = None
        assert "\nperuserd_instances_alive 2.0" in collected(collector)
        collected(collector)
    assert [(line["log_level"], line["part"]) for line in logged] == [("error", "failing"), ("info", "failing")]
    assert isinstance(logged[0]["exc_info"], ValueError)


def broken_value() -> Iterator[Metric]:
    """Return a family with a value that is no number."""
    yield GaugeMetricFamily("peruserd_no_number", "No number.", value="many")  # type: ignore[arg-type]


def broken_text() -> Iterator[Metric]:
    """Return a family with a label that no encoding can write."""
    family = CounterMetricFamily("peruserd_no_text", "No text.", labels=["name"])
    family.add_metric(["\ud800"], 1)
    yield family


@pytest.mark.parametrize("encode", [generate_latest, openmetrics.generate_latest], ids=["text", "openmetrics"])
@pytest.mark.parametrize("broken", [broken_value, broken_text])
def test_a_family_that_cannot_be_written_is_left_out(broken: Source, encode: Encode) -> None:
    """The library fails as a whole over one of them."""
    registry = CollectorRegistry()
    registry.register(GuardedCollector({"sound": sound}, {"broken": broken}))
    with capture_logs() as logged:
        exposition = Exposition(registry)
        text = exposition.write(encode).decode()
        assert exposition.write(encode).decode() == text
    assert "\nperuserd_ready 3.0" in text
    assert "peruserd_no_" not in text
    assert [line["log_level"] for line in logged] == ["error"]
    assert len(logged[0]["families"]) == 1


def test_the_registry_has_the_metrics_of_the_process_beside_the_parts() -> None:
    """Each part has its own count of failures, also those of the library."""
    text = Exposition(registry_of({"sound": sound})).write(generate_latest).decode()
    assert "\nperuserd_ready 3.0" in text
    assert "process_resident_memory_bytes " in text
    assert "python_info{" in text
    assert "python_gc_collections_total{" in text
    for part in ("sound", "process", "platform", "gc"):
        assert f'peruserd_collector_failures_total{{part="{part}"}} 0.0' in text
