"""The benchmark `membership`: an instance is killed, and started again later, while users sign up at a steady rate."""

from bench.membership.measurement import course, measure
from bench.membership.tables import figures, report

__all__ = ["course", "figures", "measure", "report"]
