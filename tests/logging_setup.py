"""The log of a test's own process, as that of a daemon, and everything as it was afterwards."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

from peruserd.core.configuration.config import LogConfig
from peruserd.logs import configure, reconfigure


@contextmanager
def logging_to(stream: TextIO | None, config: LogConfig, **context: str) -> Iterator[None]:
    """Log to a stream in place of standard error."""
    before = structlog.get_config()
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    root = logging.getLogger()
    handlers, level, stderr = list(root.handlers), root.level, sys.stderr
    with warnings.catch_warnings():
        sys.stderr = stream
        try:
            configure(config, "userdb-", **context)
            yield
        finally:
            logging.captureWarnings(capture=False)
            sys.stderr = stderr
            root.handlers = handlers
            root.setLevel(level)
            sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
            structlog.configure(**before)
            reconfigure(LogConfig())
