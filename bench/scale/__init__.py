"""The benchmark `scale`: planning, the documents that a loss moves, and idle traffic, by the size of the cluster."""

from bench.scale.measurement import course, measure
from bench.scale.tables import figures, report

__all__ = ["course", "figures", "measure", "report"]
