"""The rules of all tests: a tool that is missing skips a test, and no process is left behind."""

import contextlib
import gc
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NoReturn

import hypothesis
import psutil
import pytest
import structlog

from tests import quick, temporary_files
from tests.waiting import PATIENCE_SECONDS

# The helpers of these tests show what they compared when they fail, as the tests themselves do.
pytest.register_assert_rewrite("tests.system")

# If Python keeps no bytecode, hundreds of processes each compile the same code. That is a third of the processor time
# of an instance's start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

temporary_files.use_own_directory()

# A shell ignores SIGINT for what it runs in the background, and all processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Every process that the tests start has this variable in its environment, even after its parent has ended.
_MARK = "TESTS_OF_PERUSERD"

# Nearly every test in these folders starts daemons or benchmarks. Other modules mark themselves.
_OF_PROCESSES = [Path(__file__).parent / name for name in ("bench", "system")]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for a quick run."""
    parser.addoption("--quick", action="store_true", help="try a quarter of the examples of properties and models")


def pytest_configure(config: pytest.Config) -> None:
    """Set the variable for the test modules, hypothesis' profile, and the log of the tests' own process.

    The first two are read when modules are imported.
    """
    if config.getoption("--quick"):
        os.environ[quick.VARIABLE] = "1"
    # On a busy machine any example can take long, and no test asserts on time spent.
    hypothesis.settings.register_profile("untimed", deadline=None, max_examples=quick.examples(100))
    hypothesis.settings.load_profile("untimed")
    # By default, a traceback shows the sources in colours and the values of all variables. That takes 20 ms each.
    *others, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, plain])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of whole folders, and spread their modules evenly among the others.

    Tests of processes mostly wait, and the others compute. Side by side they take less time than one kind after the
    other, and fewer clusters run at once.
    """
    waiting: list[list[pytest.Item]] = []
    computing: list[list[pytest.Item]] = []
    for path, group in groupby(items, lambda item: item.path):
        module = list(group)
        if any(path.is_relative_to(folder) for folder in _OF_PROCESSES):
            for item in module:
                item.add_marker("processes")
        waits = any(item.get_closest_marker("processes") for item in module)
        (waiting if waits else computing).append(module)
    items[:] = [item for module in _spread(waiting, computing) for item in module]


def pytest_collection() -> None:
    """Collect no garbage while the tests are found, because all that is made then stays."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Take the tests and their modules out of garbage collection, because they stay until the end anyway."""
    gc.freeze()
    gc.enable()


def _spread(few: list[list[pytest.Item]], many: list[list[pytest.Item]]) -> Iterator[list[pytest.Item]]:
    """Return all modules, mixed so that the tests of both kinds advance at the same rate."""
    places = [*_places(few), *_places(many)]
    return (module for _, module in sorted(places, key=itemgetter(0)))


def _places(modules: list[list[pytest.Item]]) -> Iterator[tuple[float, list[pytest.Item]]]:
    count = sum(map(len, modules))
    before = 0
    for module in modules:
        yield before / count, module
        before += len(module)


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Skip a test that needs something missing on this machine; in CI the test fails, because all must be there."""

    def give_up(why: str) -> NoReturn:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(f"{why} (in CI nothing may be missing)", pytrace=False)
        pytest.skip(why)

    return give_up


@pytest.fixture(scope="session")
def need_tool(unavailable: Callable[[str], NoReturn]) -> Callable[[str], str]:
    """Return the path of a program that a test needs; if it is missing, see `unavailable`."""

    def find(name: str) -> str:
        return shutil.which(name) or unavailable(f"{name} is not installed")

    return find


@pytest.fixture(scope="session", autouse=True)
def _programs_are_without_rich() -> Iterator[None]:
    """Let programs that tests start find no Rich, as without the extra `demo`; see `tests.with_rich`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent / "plain"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_process_left() -> Iterator[None]:
    """Fail the run if one of its processes is still there at its end, and end that process."""
    before = os.environ.get(_MARK)
    mark = os.environ[_MARK] = secrets.token_hex(16)
    yield
    # A process that is ending may need a moment, and more on a busy machine.
    _, left = psutil.wait_procs(_started_here(mark), timeout=PATIENCE_SECONDS)
    names = [_described(process) for process in left]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    if before is None:
        del os.environ[_MARK]
    else:
        os.environ[_MARK] = before
    assert not names, f"processes left behind by tests: {', '.join(names)}"


def _started_here(mark: str) -> list[psutil.Process]:
    found = set(psutil.Process().children(recursive=True))
    for process in psutil.process_iter():
        # The process belongs to another user, or it has just ended.
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(_MARK) == mark:
                found.add(process)
    return [process for process in found if not _is_helper(process)]


def _is_helper(process: psutil.Process) -> bool:
    """Say whether this is a helper of `multiprocess`, which lives as long as pytest's own process."""
    try:
        words = " ".join(process.cmdline())
        # A child of a fork server has the same command line, but another parent.
        return "resource_tracker" in words or ("forkserver" in words and process.ppid() == os.getpid())
    except psutil.Error:
        return False


def _described(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline()) or process.name()})"
    except psutil.Error:
        return str(process.pid)
