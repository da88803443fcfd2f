"""Log lines: what they must never show."""

import pytest
import structlog

from peruserd import logs
from peruserd.core.configuration.config import LogConfig, LogFormat


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_traceback_shows_where_and_no_local_variable(capsys: pytest.CaptureFixture[str], form: LogFormat) -> None:
    """A fault in the middle of a request must not put the credentials that were at hand into the log."""
    before = structlog.get_config()

    def request() -> None:
        password = "hunter" + str(1 + 1)
        raise ValueError(f"a fault with {len(password)} characters at hand")

    try:
        logs.configure(LogConfig(format=form), instance="node1")
        try:
            request()
        except ValueError as error:
            structlog.get_logger().error("fault", exc_info=error)
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert "a fault with 7 characters" in written
    assert "request" in written
    assert "node1" in written
    assert "hunter2" not in written
