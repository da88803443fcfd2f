"""The capacity of one listener: rows a second from recorded feeds through all its real code, and its stages alone."""

from bench.pipeline.run import run

__all__ = ["run"]
