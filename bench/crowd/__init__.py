"""The benchmark `crowd`: how long one user waits while very many have signed up at once."""

from bench.crowd.measurement import course, measure
from bench.crowd.tables import figures, report

__all__ = ["course", "figures", "measure", "report"]
