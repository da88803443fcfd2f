"""Lines that repeat are written once and counted, whatever ends the minute: a timer, another line, or the process."""

import gc
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from peruserd import logs
from peruserd.core.common import repeats
from peruserd.core.configuration.choices import LogFormat, LogLevel, LogUsers
from peruserd.core.configuration.config import LogConfig
from tests.logging_setup import logging_to
from tests.waiting import eventually

JSON = LogConfig(LogFormat.JSON, LogLevel.DEBUG)

log = structlog.get_logger(__name__)


def events(stream: StringIO) -> list[dict[str, object]]:
    """Return the lines that were written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_repeats_is_written_once_and_counted_at_the_end() -> None:
    """The count has the form of the log, and the context of the process."""
    stream = StringIO()
    with logging_to(stream, JSON, instance="node1"):
        for number in range(100):
            log.warning("not served", error="no answer", tries=number)
            log.info("audit", action="grant")
        logs.say_rest()
    said = events(stream)
    assert [each["action"] for each in said if each["event"] == "audit"] == ["grant"] * 100
    first, counted = (each for each in said if each["event"] == "not served")
    assert (first["tries"], "repeated" in first) == (0, False)
    assert list(counted) == ["timestamp", "level", "event", "instance", "error", "repeated"]
    assert (counted["repeated"], counted["error"], counted["instance"]) == (99, "no answer", "node1")
    assert str(counted["timestamp"]) >= str(first["timestamp"])


def test_a_count_is_written_also_if_no_other_line_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer sees to it."""
    monkeypatch.setattr(repeats, "SECONDS", 0.1)
    stream = StringIO()
    with logging_to(stream, JSON):
        for _ in range(3):
            log.error("failed")
        eventually(lambda: '"repeated": 2' in stream.getvalue(), "the count is written")


def test_without_another_thread_the_next_line_brings_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine can have no room for a thread just when everything fails."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(repeats, "SECONDS", 0.05)
    monkeypatch.setattr(threading.Thread, "start", fail)
    stream = StringIO()
    with logging_to(stream, JSON):
        log.error("failed")
        log.error("failed")
        eventually(lambda: log.info("said") or '"repeated": 1' in stream.getvalue(), "the count is written")


@pytest.mark.parametrize("users", list(LogUsers))
def test_a_flood_about_many_users_from_many_threads_is_counted_truly(users: LogUsers) -> None:
    """Each line is written or counted once, and the words name users as configured."""
    stream = StringIO()

    def flood(thread: int) -> None:
        for number in range(500):
            user = f"user-{thread}-{number}"
            error = f"PUT /userdb-{user.encode().hex()}/_security: 500"
            log.warning("user not served; kept in quarantine", document=f"org.couchdb.user:{user}", error=error)

    with logging_to(stream, LogConfig(LogFormat.JSON, LogLevel.INFO, users)):
        threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        logs.say_rest()
    said = events(stream)
    assert len(said) <= repeats.SUBJECTS + 1
    assert sum(int(str(each.get("repeated", 1))) for each in said) == 2_000
    assert ("userdb-757365722d302d" in stream.getvalue()) is (users is LogUsers.NAME)
    is_same = users is LogUsers.NONE
    assert said[-1]["error"] == ("PUT /userdb-#/_security: 500" if is_same else "PUT /userdb-…/_security: 500")


class Failing:
    """An object whose end fails, and is logged by whatever thread just runs."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        raise ValueError("failed at the end")


def test_an_error_within_the_log_itself_is_logged_without_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python collects garbage anywhere, also where a line is being written or counted."""
    admits = repeats.Repeats.admits

    def collecting(self: repeats.Repeats, line: repeats.Line, now: float) -> bool:
        if line["event"] == "said":
            gc.collect()
        return admits(self, line, now)

    monkeypatch.setattr(repeats.Repeats, "admits", collecting)
    stream = StringIO()
    with logging_to(stream, JSON):
        Failing()
        log.warning("said")
    assert Counter(each["event"] for each in events(stream)) == {"said": 1, "an error could not be handled": 1}


def test_a_value_that_cannot_be_shown_ends_nothing() -> None:
    """Whoever logs has other work to do."""

    class Unshown:
        def __repr__(self) -> str:
            raise KeyError("alice")

    stream = StringIO()
    with logging_to(stream, JSON):
        log.info("said", value=Unshown())
    (said,) = events(stream)
    assert (said["event"], said["left_out"]) == ("said", "the values cannot be shown: KeyError")
    assert "alice" not in stream.getvalue()


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Let a thread wait until the end of the test."""
    event = threading.Event()
    yield event
    event.set()


class SlowStream(StringIO):
    """A stream in which a line takes as long as a test likes."""

    def __init__(self, held: threading.Event) -> None:
        super().__init__()
        self.held = held
        self.is_held = threading.Event()

    def write(self, text: str) -> int:
        """Wait before the line of one thread."""
        if "held" in text:
            self.is_held.set()
            self.held.wait()
        return super().write(text)


def test_a_process_that_is_forked_meanwhile_can_log_and_counts_for_itself(held: threading.Event) -> None:
    """Another thread holds the lock of the log at that moment, and a timer waits for a count of the first process."""
    stream = SlowStream(held)
    with logging_to(stream, JSON):
        for _ in range(3):
            log.warning("failed")
        threading.Thread(target=log.warning, args=("held",), daemon=True).start()
        assert stream.is_held.wait(30.0)
        child = os.fork()
        if child == 0:
            # A deadlock would end this child by the alarm, and not with this code.
            signal.alarm(30)
            log.warning("failed")
            logs.say_rest()
            os._exit(0 if stream.getvalue().count("failed") == 2 and "repeated" not in stream.getvalue() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
