"""The benchmark `restart`: the time until a stopped instance serves again, and its requests until then."""

from bench.restart.run import run

__all__ = ["run"]
