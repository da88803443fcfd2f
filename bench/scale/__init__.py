"""The benchmark `scale`: planning, the documents that a loss moves, and idle traffic, by the size of the cluster."""

from bench.scale.run import run

__all__ = ["run"]
