"""The benchmark `restart`: the time until a stopped instance serves again, and its requests until then."""

from bench.restart.measurement import course, measure
from bench.restart.summary import figures
from bench.restart.tables import report

__all__ = ["course", "figures", "measure", "report"]
