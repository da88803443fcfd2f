"""How soon a stopped instance serves again, and what it asks for until then; with its state, and without it."""

from bench.restart.run import run

__all__ = ["run"]
