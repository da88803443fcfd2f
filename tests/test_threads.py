"""Long-lived threads: they are registered, and can neither end nor hang unnoticed."""

import ast
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from peruserd import threads
from peruserd.threads import WAITING, LastingThread, Register, beat
from tests.waiting import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).parents[1]

# The modules that may start threads. Only the first one starts threads that last. The others are short-lived, and
# bounded in number; an exception in one of them goes to the log.
STARTERS = {
    "threads.py": "the threads that last",
    "couch/lookups.py": "the look-up of a host, one at a time for each",
    "daemon/control.py": "a client of the control socket, for as long as its order takes",
    "daemon/http_server.py": "a connection of HTTP",
    "supervisor/forkserver.py": "a time limit for the fork server's answer",
    "logs/pipeline.py": "a timer for lines that were held back, whose number otherwise comes with the next line",
}

# These programs are no part of the daemon, and nobody waits for them.
COMMANDS = ("cli", "demo", "simcluster")

# The functions and classes that start threads when they are called, and the classes to inherit from for that.
MAKERS = frozenset({"Thread", "Timer", "ThreadPoolExecutor", "ThreadPool", "start_new_thread"})
BASES = frozenset({"Thread", "Timer", "ThreadingMixIn"})


class FakeTime:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Give the threads of a test a clock of its own."""
    made = FakeTime()
    monkeypatch.setattr(threads, "time", made)
    return made


class Held:
    """The body of a thread that a test holds: it says where it is, and goes on when it is told to."""

    def __init__(self, register: Register, seconds: float | None = None) -> None:
        self._seconds = seconds
        self.go = threading.Event()
        self.is_there = threading.Event()
        self.thread = LastingThread("held", self._run, register=register)

    def _run(self) -> None:
        if self._seconds is not None:
            beat(self._seconds)
        self.is_there.set()
        self.go.wait(PATIENCE_SECONDS)

    def __enter__(self) -> LastingThread:
        self.thread.start()
        assert self.is_there.wait(PATIENCE_SECONDS)
        return self.thread

    def __exit__(self, *_: object) -> None:
        self.go.set()
        assert self.thread.ends_within(PATIENCE_SECONDS)


def aged(register: Register, clock: FakeTime, seconds: float) -> str | None:
    """Let time pass, with somebody who asks now and then; return the last answer."""
    for _ in range(int(seconds)):
        clock.now += 1.0
        trouble = register.trouble()
    return trouble


def test_a_thread_that_hangs_is_named(clock: FakeTime) -> None:
    """It has a minute's grace, because a busy machine can be late."""
    register = Register(clock.monotonic)
    with Held(register):
        assert register.names() == ["held"]
        assert aged(register, clock, 60) is None
        trouble = aged(register, clock, 2)
        assert trouble is not None
        assert "'held' hangs" in trouble
    assert register.names() == []
    assert register.trouble() is None


def test_a_silence_that_was_announced_is_no_hang(clock: FakeTime) -> None:
    """A request may take as long as its time limits, and the grace comes on top."""
    register = Register(clock.monotonic)
    with Held(register, 200.0):
        assert aged(register, clock, 260) is None
        assert aged(register, clock, 2) is not None


def test_a_thread_that_waits_for_others_may_wait_for_ever(clock: FakeTime) -> None:
    """As soon as the wait is over, the next sign of life is due."""
    register = Register(clock.monotonic)
    waited, over = threading.Event(), threading.Event()

    def run() -> None:
        with WAITING:
            waited.wait(PATIENCE_SECONDS)
        over.wait(PATIENCE_SECONDS)

    thread = LastingThread("waiting", run, register=register)
    thread.start()
    eventually(lambda: thread.life.due == float("inf"), "it waits")
    assert aged(register, clock, 100_000) is None
    waited.set()
    eventually(lambda: thread.life.due < float("inf"), "it has waited")
    assert aged(register, clock, 62) is not None
    over.set()
    assert thread.ends_within(PATIENCE_SECONDS)


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_thread_that_ends_by_an_error_is_handed_up_or_stays_in_the_register(error: BaseException) -> None:
    """Python itself passes over a thread that ends by SystemExit."""

    def run() -> None:
        raise error

    register, handed_up = Register(), list[BaseException]()
    thread = LastingThread("ending", run, on_error=handed_up.append, register=register)
    thread.start()
    assert thread.ends_within(PATIENCE_SECONDS)
    assert handed_up == [error]
    assert register.trouble() is None
    thread = LastingThread("ending", run, register=register)
    with capture_logs() as logged:
        thread.start()
        assert thread.ends_within(PATIENCE_SECONDS)
    assert [line["exc_info"] for line in logged] == [error]
    assert register.trouble() == f"the thread 'ending' has ended: {error!r}"


def test_failures_in_a_row_are_counted_and_a_success_ends_them(clock: FakeTime) -> None:
    """A thread that has failed for five minutes is named, with the words of the last error."""
    register = Register(clock.monotonic)
    with Held(register, float("inf")) as thread:
        for _ in range(4):
            thread.failed(ValueError("\x1b[2J" + "odd " * 1_000))
        assert aged(register, clock, 400) is None
        thread.failed(ValueError("\x1b[2J" + "odd " * 1_000))
        trouble = register.trouble()
        assert trouble is not None
        assert "failed 5 times in a row, for 400 s: ValueError('" in trouble
        assert "\x1b" not in trouble
        assert len(trouble) < 500
        assert thread.recovered() == 5
        assert register.trouble() is None


def test_a_thread_that_cannot_be_started_is_not_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it gets the error."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    register = Register()
    with pytest.raises(RuntimeError, match="new thread"):
        LastingThread("none", lambda: None, register=register).start()
    assert register.names() == []


def test_a_beat_elsewhere_does_nothing() -> None:
    """Requests are made by short-lived threads and by commands, too."""
    beat(5.0)
    with WAITING:
        assert threads.pause(threading.Event(), 0.0) is False


def test_an_exception_in_a_short_lived_thread_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would write its traceback as many lines of plain text."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    threads.log_uncaught()

    def fail() -> None:
        raise ValueError("odd")

    with capture_logs() as logged:
        thread = threading.Thread(target=fail, name="short")
        thread.start()
        thread.join(PATIENCE_SECONDS)
    assert [(line["log_level"], line["thread"]) for line in logged] == [("error", "short")]
    assert isinstance(logged[0]["exc_info"], ValueError)


def _starts_threads(path: Path) -> bool:
    """Say whether a module makes threads in any of the ways that Python has."""
    source = path.read_text()
    # To parse all sources takes long, and none of these ways can do without its name.
    if not any(each in source for each in (*MAKERS, *BASES)):
        return False
    for node in ast.walk(ast.parse(source)):
        called = node.func if isinstance(node, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in MAKERS:
            return True
        if isinstance(node, ast.ClassDef):
            bases = {getattr(each, "attr", getattr(each, "id", "")) for each in node.bases}
            if bases & BASES:
                return True
    return False


def test_threads_are_started_in_few_places() -> None:
    """A new thread that lasts is a LastingThread or a RepeatedTask, so the register knows it."""
    package = ROOT / "peruserd"
    files = {str(each.relative_to(package)): each for each in package.rglob("*.py")}
    found = {name for name, path in files.items() if name.partition("/")[0] not in COMMANDS and _starts_threads(path)}
    assert found == set(STARTERS)
