"""How peruserd grows with nodes, ranges and instances: planning, what a loss moves, and what being idle costs."""

from bench.scale.run import run

__all__ = ["run"]
