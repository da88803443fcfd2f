"""Log lines: one for each event, of a bounded length, without credentials, whatever happens to standard error."""

import gc
import json
import logging
import os
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from peruserd import logs
from peruserd.core.common.log_values import MAX_BYTES
from peruserd.core.configuration.choices import LogFormat, LogLevel, LogUsers
from peruserd.core.configuration.config import LogConfig
from tests.logging_setup import logging_to
from tests.waiting import eventually

JSON = LogConfig(LogFormat.JSON, LogLevel.DEBUG, LogUsers.NAME)
CONSOLE = LogConfig(LogFormat.CONSOLE, LogLevel.DEBUG, LogUsers.NAME)
HASHING = LogConfig(LogFormat.JSON, LogLevel.DEBUG)
EVIL = ["a\nb", "a\r\nb", "\x1b[2J", "\u202egpj", "\u2028", "\x85", "\x7f", "\udcff", "\x00", "a=b c", '"', "\\", ""]
VALUES = st.text() | st.sampled_from(EVIL) | st.lists(st.text(), max_size=3) | st.integers() | st.none()

log = structlog.get_logger(__name__)


def written(config: LogConfig, event: str, **values: object) -> str:
    """Return what is written for one event."""
    stream = StringIO()
    with logging_to(stream, config, instance="node1"):
        log.error(event, **values)
    return stream.getvalue()


def is_calm(text: str) -> bool:
    """Say whether no character of a text can begin a line, steer a terminal, or change the direction of writing."""
    return not {unicodedata.category(each) for each in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def fault() -> BaseException:
    """Return an error with a cause and a traceback, in whose frames there is a password."""
    password = "hunter" + str(1 + 1)
    try:
        try:
            raise KeyError("the\ncause")  # noqa: TRY301 - a cause is wanted
        except KeyError as cause:
            raise ValueError(f"a fault\nwith {len(password)} characters at hand") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize("config", [JSON, CONSOLE], ids=["json", "console"])
def test_a_traceback_is_one_line_and_shows_where_and_no_local_variable(config: LogConfig) -> None:
    """An error in the middle of a request must not put its credentials into the log."""
    (line,) = written(config, "fault", exc_info=fault()).splitlines()
    for words in (
        "with 7 characters",
        "cause",
        "ValueError",
        "KeyError",
        "test_logs.py",
        "node1",
    ):
        assert words in line
    assert "hunter2" not in line


@pytest.mark.parametrize("config", [JSON, CONSOLE], ids=["json", "console"])
def test_the_error_that_is_handled_now_is_shown(config: LogConfig) -> None:
    """`log.exception` needs no argument, and outside of a handler there is nothing to show."""
    stream = StringIO()
    with logging_to(stream, config):
        try:
            raise ValueError("of now")  # noqa: TRY301 - an error is wanted
        except ValueError:
            log.exception("fault")
        log.error("later", exc_info=True)  # noqa: LOG014 - a mistake of a caller
    first, second = stream.getvalue().splitlines()
    assert "of now" in first
    assert "exception" not in second


@given(st.dictionaries(st.sampled_from(["user", "error", "a key", "k\n"]), VALUES), VALUES)
def test_an_event_is_one_line_of_json_with_its_values(values: dict[str, object], more: object) -> None:
    """Each text comes back as it was, so nothing is lost by the escapes."""
    text = written(JSON, "event", more=more, **values)
    assert text.isascii()
    assert text[:-1].isprintable()
    assert text.endswith("\n")
    decoded = json.loads(text)
    assert decoded["event"] == "event"
    assert decoded["more"] == more
    assert {key: decoded[key] for key in values} == values


@given(st.dictionaries(st.sampled_from(["user", "error", "k\n"]), VALUES), st.sampled_from(EVIL))
def test_an_event_for_people_is_one_line_that_steers_no_terminal(values: dict[str, object], event: str) -> None:
    """Control characters, marks of direction and ends of lines are escaped, in keys and in the event itself too."""
    text = written(CONSOLE, event, **values)
    assert text.endswith("\n")
    assert is_calm(text[:-1])


@pytest.mark.parametrize("config", [JSON, CONSOLE], ids=["json", "console"])
@pytest.mark.parametrize(
    "values",
    [
        {"error": "x" * 1_000_000},
        {"error": "\u202e" * 100_000},
        {f"key{number}": "x" * 100 for number in range(1_000)},
        {"deep": [["x" * 100] * 100] * 100},
        {"k" * 100_000: "v"},
        {"exc_info": RecursionError("x" * 100_000)},
    ],
    ids=["long", "escaped", "many", "deep", "key", "error"],
)
def test_a_line_has_a_bounded_length(config: LogConfig, values: dict[str, object]) -> None:
    """A longer one could be mixed with lines of other processes, which write to the same pipe."""
    text = written(config, "event", **values)
    assert len(text.encode()) <= MAX_BYTES
    assert text.count("\n") == 1
    assert "event" in text


def test_level_and_form_change_for_loggers_that_were_used_before() -> None:
    """A reload reaches each module, although each keeps its logger from its first line on."""
    stream = StringIO()
    with logging_to(stream, LogConfig(LogFormat.JSON), instance="node1"):
        log.debug("too little")
        log.info("first")
        logs.reconfigure(LogConfig(LogFormat.CONSOLE, LogLevel.DEBUG))
        log.debug("second")
        logs.reconfigure(LogConfig(LogFormat.JSON, LogLevel.ERROR))
        log.warning("too little")
        log.error("third")
    first, second, third = stream.getvalue().splitlines()
    assert (json.loads(first)["event"], json.loads(first)["instance"]) == ("first", "node1")
    assert "second" in second
    assert "instance=node1" in second
    assert (json.loads(third)["event"], json.loads(third)["level"]) == ("third", "error")


# Users

ABOUT_ALICE = {"document": "org.couchdb.user:alice", "error": "PUT /userdb-616c696365/_security: 500"}


@pytest.mark.parametrize(
    ("users", "document", "database"),
    [
        (LogUsers.HASH, "org.couchdb.user:#2bd806c97f0e00af", "userdb-#2bd806c97f0e00af"),
        (LogUsers.NAME, "org.couchdb.user:alice", "userdb-616c696365"),
        (LogUsers.NONE, "org.couchdb.user:#", "userdb-#"),
    ],
)
def test_users_are_named_as_configured(users: LogUsers, document: str, database: str) -> None:
    """That holds for fields, for words of others and for tracebacks, and a reload changes it."""
    stream = StringIO()
    with logging_to(stream, HASHING):
        logs.reconfigure(LogConfig(LogFormat.JSON, LogLevel.DEBUG, users))
        log.error("failed", exc_info=ValueError("PUT /userdb-616c696365"), **ABOUT_ALICE)
        logging.getLogger("urllib3").warning("Retrying: %s", "/userdb-616c696365/_security")
        logs.reconfigure(LogConfig(LogFormat.CONSOLE, LogLevel.DEBUG, users))
        log.error("failed", exc_info=ValueError("PUT /userdb-616c696365"), **ABOUT_ALICE)
    first, second, third = stream.getvalue().splitlines()
    values = json.loads(first)
    assert (values["document"], values["error"]) == (document, f"PUT /{database}/_security: 500")
    assert values["exception"][0]["exc_value"] == f"PUT /{database}"
    assert json.loads(second)["words"] == f"Retrying: /{database}/_security"
    assert document in third
    assert third.count(database) == 2


def test_no_part_of_a_name_is_left_where_a_text_is_cut() -> None:
    """Names are searched for before a text is cut to fit into its line."""
    name = "alice@example.com"
    for filler in range(1_900, 2_010):
        text = written(HASHING, "failed", document=f"org.couchdb.user:{name}", error=f"{'x' * filler} {name} and more")
        assert "alice" not in text


# Words of others


def test_what_libraries_and_python_warn_of_has_the_form_of_the_log() -> None:
    """By default it would go to standard error as it is, with addresses in it."""
    stream = StringIO()
    with logging_to(stream, JSON):
        logging.getLogger("urllib3").warning("Retrying after %r: %s", OSError("a\nb"), "/userdb-61")
        logging.getLogger("urllib3").info("too little")
        logging.getLogger("urllib3.connectionpool").warning("said by whoever makes the request")
        logging.getLogger("odd").error("two %s of one", "words", "too many")  # noqa: PLE1205 - a library's mistake
        warnings.warn("something\nis old", DeprecationWarning, stacklevel=1)
    first, second, third = map(json.loads, stream.getvalue().splitlines())
    assert (first["library"], first["level"]) == ("urllib3", "warning")
    assert first["words"] == "Retrying after OSError('a\\nb'): /userdb-61"
    assert "with words that cannot be made" in second["words"]
    assert "something" in third["words"]


def test_an_error_that_nobody_can_handle_is_in_the_form_of_the_log() -> None:
    """Python itself would write several lines, with the names that the error has."""

    class Broken:
        def __del__(self) -> None:
            raise ValueError("/userdb-616c696365")

    stream = StringIO()
    with logging_to(stream, HASHING):
        Broken()
        gc.collect()
    line = json.loads(stream.getvalue())
    assert line["event"] == "an error could not be handled"
    assert line["exception"][0]["exc_value"] == "/userdb-#2bd806c97f0e00af"


def test_an_error_that_ends_the_process_is_a_line() -> None:
    """Ctrl-C alone is left to Python."""
    stream = StringIO()
    with logging_to(stream, JSON):
        logs.log_the_end()
        error = fault()
        sys.excepthook(type(error), error, error.__traceback__)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "the process ends because of an error"
    assert "with 7 characters" in line


# Standard error that cannot be written


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_a_line_that_cannot_be_written_is_lost_and_nothing_else(path: str) -> None:
    """A full disk under the log must stop no listener, and neither must a descriptor that is only open for reading."""
    with Path(path).open("r+" if path == "/dev/full" else "r", encoding="utf-8") as file, logging_to(file, JSON):
        for _ in range(3):
            log.error("said" * 10_000)


def test_a_closed_stream_ends_nothing() -> None:
    """The stream can be closed before the setup or after it, and there can be none at all."""
    closed = StringIO()
    closed.close()
    for stream in (None, closed, sys.__stderr__ and StringIO()):
        with logging_to(stream, CONSOLE):
            if stream is not None:
                stream.close()
            log.error("said")


class Pipe:
    """A pipe in the place of standard error."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.stream = os.fdopen(self.write_end, "w", encoding="utf-8")

    def hang_up(self) -> None:
        """Close the end that is read from."""
        os.close(self.read_end)
        self.read_end = -1

    def end(self) -> None:
        """Close what is still open."""
        if self.read_end >= 0:
            self.hang_up()
        with suppress(OSError):
            self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Make a pipe that is closed after the test."""
    made = Pipe()
    yield made
    made.end()


def test_a_pipe_without_a_reader_ends_nothing(pipe: Pipe) -> None:
    """The program that had read the log has ended, and Python's own buffer keeps nothing that fails at the end."""
    with logging_to(pipe.stream, JSON):
        log.error("read")
        pipe.hang_up()
        for _ in range(3):
            log.error("lost")
    pipe.stream.flush()


def test_a_pipe_that_nobody_reads_holds_up_no_thread_and_the_lost_lines_are_counted(pipe: Pipe) -> None:
    """The first lost line waits for a moment, and those after it wait no more."""
    events: list[dict[str, object]] = []
    with logging_to(pipe.stream, JSON):
        for _ in range(100):
            log.info("said", filler="x" * 1_900)
        reading = threading.Thread(target=_read_lines, args=(pipe.read_end, events))
        reading.start()
        eventually(lambda: events, "the lines are read again")
        log.info("again")
        pipe.stream.close()
        reading.join()
    said, (lost,) = (
        [each for each in events if each["event"] == name]
        for name in ("said", "log lines could not be written, and are lost")
    )
    assert 0 < len(said) < 100
    assert lost["lines"] == 100 - len(said)
    assert events[-1]["event"] == "again"


def _read_lines(descriptor: int, events: list[dict[str, object]]) -> None:
    with os.fdopen(os.dup(descriptor), encoding="utf-8") as file:
        events.extend(json.loads(line) for line in file)
