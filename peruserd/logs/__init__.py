"""Structured log lines on standard error: readable on a terminal, JSON elsewhere. An event is always one line.

Each process of an instance calls `configure` once. From then on everything that libraries and Python itself have to say
comes in the same form.
"""

from peruserd.logs.setup import check_audit_file, configure, open_audit_file, reconfigure, say_rest, without_names
from peruserd.logs.strangers import log_the_end

__all__ = [
    "check_audit_file",
    "configure",
    "log_the_end",
    "open_audit_file",
    "reconfigure",
    "say_rest",
    "without_names",
]
