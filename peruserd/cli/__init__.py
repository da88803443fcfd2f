"""The commands. Each is a module of its own, imported only when it is called: a listener's process imports this too."""

from peruserd.cli.parser import main

__all__ = ["main"]
