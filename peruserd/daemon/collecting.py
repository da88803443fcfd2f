"""Collecting metrics from many sources, so that one that fails does not take the others along."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peruserd.daemon.samples import Part, Samples

Source = Callable[[], Iterable[Metric]]
"""Returns metric families. Any exception from it only leaves out the families that it has not returned yet."""

Encode = Callable[[CollectorRegistry], bytes]
"""Writes the metrics of a registry in one of Prometheus' forms."""

log = structlog.get_logger(__name__)


class GuardedCollector(Collector):
    """Collects from parts and sources with fixed names. One that fails is logged once, until it succeeds, and counted.

    The parts put samples of the table of metrics. The sources are collectors of a library.
    """

    def __init__(self, parts: Mapping[str, Part], sources: Mapping[str, Source] = {}) -> None:
        self._parts = dict(parts)
        self._sources = dict(sources)
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()
        self._failing: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        """Return the families of all parts and sources that work, and the number of failures of each."""
        samples = Samples()
        for name, part in self._parts.items():
            self._guarded(name, partial(part, samples))
        families: list[Metric] = []
        for name, source in self._sources.items():
            self._guarded(name, partial(_take_all, families, source))
        with self._lock:
            for name in (*self._parts, *self._sources):
                samples.put("peruserd_collector_failures", self._failures[name], name)
        yield from samples.families()
        yield from families

    def _guarded(self, name: str, collect: Callable[[], None]) -> None:
        try:
            collect()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other metrics must be served
            self._failed(name, error)
        else:
            self._succeeded(name)

    def _failed(self, name: str, error: Exception) -> None:
        with self._lock:
            self._failures[name] += 1
            is_new = name not in self._failing
            self._failing.add(name)
        if is_new:
            log.error("metrics of a part cannot be collected and are left out", part=name, exc_info=error)

    def _succeeded(self, name: str) -> None:
        with self._lock:
            was_failing = name in self._failing
            self._failing.discard(name)
        if was_failing:
            log.info("metrics of a part can be collected again", part=name)


class Exposition:
    """Writes the metrics of a registry, without families that cannot be written, such as one with a broken value."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._logged: set[str] = set()

    def write(self, encode: Encode) -> bytes:
        """Collect and write all metrics. Each family that is left out is logged once."""
        families = list(self._registry.collect())
        try:
            return encode(_of(families))
        except Exception as error:
            sound = [each for each in families if _can_be_written(each, encode)]
            left_out = {each.name for each in families if each not in sound}
            if new := left_out - self._logged:
                log.exception("metrics cannot be written and are left out", families=sorted(new), exc_info=error)
            self._logged |= new
            return encode(_of(sound))


def _take_all(families: list[Metric], source: Source) -> None:
    families.extend(source())


def _can_be_written(family: Metric, encode: Encode) -> bool:
    try:
        encode(_of([family]))
    except Exception:  # noqa: BLE001 - the caller logs it
        return False
    return True


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of(families: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return registry
