"""The daemon as users run it: a configuration file, `python -m peruserd run`, its log lines and its HTTP page."""

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.system.processes import Forked, Group, Started
from tests.waiting import eventually

Tables = Mapping[str, Mapping[str, object]]
"""A configuration: tables, keys, values."""

# The number of log lines that a failed test shows.
_SHOWN_LINES = 80


class Metrics:
    """The metrics of one scrape; only lines with a name that a test asks for are parsed, because tests scrape often."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines(keepends=True)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with this name and these labels; KeyError where the name is unknown."""
        samples = self._samples(name)
        if not samples and not any(line.startswith(f"# TYPE {name} ") for line in self._lines):
            raise KeyError(name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of each sample of this name."""
        return [sample.labels for sample in self._samples(name)]

    def _samples(self, name: str) -> list[Sample]:
        lines = "".join(line for line in self._lines if line.startswith(name))
        families = text_string_to_metric_families(lines)
        return [sample for family in families for sample in family.samples if sample.name == name]


class Daemon:
    """One instance; a test can start, stop and restart it over the same state.

    `config` is added to the settings of every test: a free port, log lines as JSON, its own state directory, quick
    looks at the cluster. The value None removes a key. This is a context manager: at its end no process is left, and a
    failed test shows the log.

    `anew` is for tests of the start itself. The instance then begins as a new interpreter, as at a user's, not as a
    fork of a process with all imports. So does an instance `under` another command, which gets the daemon's command as
    arguments. `anew` may be changed before the next start.
    """

    def __init__(
        self,
        directory: Path,
        *,
        url: str,
        username: str | None = None,
        password: str | None = None,
        config: Tables | None = None,
        environment: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        anew: bool = False,
    ) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.http = ""
        # A killed instance leaves files there. The path must be short, because the directory holds a socket.
        self._temporary = tempfile.TemporaryDirectory()
        self._environment = {"TMPDIR": self._temporary.name} | dict(environment or {})
        self._under = under
        self.anew = anew or bool(under)
        self._http = requests.Session()
        # Proxies of the environment are not for this machine.
        self._http.trust_env = False
        self._started: Group | None = None
        self._starts = 0
        directory.mkdir(parents=True, exist_ok=True)
        couchdb: dict[str, object] = {"url": url}
        if username is not None and password is not None:
            password_file = directory / "password"
            password_file.write_text(f"{password}\n", encoding="utf-8")
            couchdb |= {"username": username, "password_file": str(password_file)}
        self.config = _merged(
            {
                "couchdb": couchdb,
                "cluster": {"poll_interval": 0.25, "quiet_period": 0.5, "lease_interval": 0.3, "lease_ttl": 5.0},
                "http": {"listen": "127.0.0.1:0"},
                "state": {"directory": str(self.state)},
                "log": {"format": "json", "level": "debug", "users": "name"},
            },
            config or {},
        )

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._running.pid

    @property
    def exit_code(self) -> int | None:
        """The supervisor's exit code, or None while it runs."""
        return self._running.exit_code

    def start(self) -> Self:
        """Start it and wait until its HTTP page answers; it may be far from ready then."""
        self.launch()
        return self.wait_until_started()

    def wait_until_started(self) -> Self:
        """Wait until the HTTP page of a launched instance answers."""
        line = eventually(lambda: self.line("started") or self._failed_to_start(), "the daemon has started")
        self.http = f"http://{line['http']}"
        return self

    def launch(self) -> None:
        """Start it without waiting, also for a start that must fail."""
        if self._started is not None:
            self._started.end()
        self._starts += 1
        file = self.write_configuration()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PERUSERD_")}
        environment = inherited | self._environment
        arguments = ["run", "--config", str(file)]
        if self.anew:
            command = [*self._under, sys.executable, "-m", "peruserd", *arguments]
            self._started = Started(command, output=self.log_file, cwd=self.directory, environment=environment)
        else:
            self._started = Forked(arguments, output=self.log_file, cwd=self.directory, environment=environment)

    def write_configuration(self, **changes: Mapping[str, object]) -> Path:
        """Change keys of these tables, write its configuration file, and return the path of that."""
        self.config = _merged(self.config, changes)
        file = self.directory / "peruserd.toml"
        file.write_text(_toml(self.config), encoding="utf-8")
        return file

    def wait(self) -> int:
        """Return its exit code as soon as it has ended."""
        return self._running.wait()

    def stop(self) -> int:
        """Send SIGTERM, as systemd does, and return the exit code."""
        self.ask_to_stop()
        return self._running.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and do not wait."""
        self._running.signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Send SIGHUP, as `systemctl reload` does."""
        self._running.signal(signal.SIGHUP)

    @property
    def password_file(self) -> Path:
        """The file with its password."""
        return self.directory / "password"

    def kill(self) -> None:
        """Kill the supervisor alone with SIGKILL."""
        self._running.signal(signal.SIGKILL)
        self._running.wait()

    def end(self) -> None:
        """End every process of it, and print the end of its log; pytest shows that if the test failed."""
        if self._started is not None:
            self._started.end()
            print(f"--- the end of {self.log_file}")
            print(*self.log_file.read_text(errors="replace").splitlines()[-_SHOWN_LINES:], sep="\n")
        self._http.close()
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # Its answers

    @property
    def log_file(self) -> Path:
        """The log that it wrote since it was last started."""
        return self._log_file(self._starts)

    def _log_file(self, start: int) -> Path:
        return self.directory / f"log-{start}.jsonl"

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the log lines since the last start (with this `event`); a line that is not JSON has the key `text`."""
        return list(_parsed(self.log_file, event))

    def all_lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines with this `event` since its first start."""
        logs = filter(Path.exists, map(self._log_file, range(1, self._starts + 1)))
        return [line for log in logs for line in _parsed(log, event)]

    def line(self, event: str) -> dict[str, Any] | None:
        """Return the newest log line with this `event` since the last start."""
        return next(reversed(self.lines(event)), None)

    def get(self, path: str, accept: str = "*/*") -> requests.Response:
        """Ask its HTTP page."""
        return self._http.get(self.http + path, headers={"Accept": accept}, timeout=30)

    def metrics(self) -> Metrics:
        """Scrape it."""
        status, text = self._ask("/metrics")
        assert status == 200, text
        return Metrics(text)

    def gauge(self, name: str) -> float | None:
        """Return a metric without labels, None while it has no value."""
        metrics = self.metrics()
        return metrics.total(name) if metrics.labels(name) else None

    @property
    def is_ready(self) -> bool:
        """Whether every listener has caught up, by /readyz."""
        return self._ask("/readyz")[0] == 200

    def _ask(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page. Tests that wait ask often, and `get` takes four times as long."""
        connection = HTTPConnection(self.http.removeprefix("http://"), timeout=30)
        with closing(connection):
            connection.request("GET", path, headers={"Accept": "*/*"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def wait_until_ready(self) -> None:
        """Wait until every listener has caught up."""
        eventually(lambda: self.is_ready, "the daemon is ready")

    def wait_until_scanned(self) -> None:
        """Wait until every listener has caught up and no scan is running, so that nothing remains to be looked at."""
        self.wait_until_ready()
        eventually(lambda: not self.metrics().total("peruserd_listener_scanning"), "no scan goes on")

    def wait_for_total(self, name: str, at_least: float, **labels: str) -> None:
        """Wait until a metric's sum has reached `at_least`."""
        eventually(
            lambda: self.metrics().total(name, **labels) >= at_least, f"{name} {labels or ''} is {at_least} or more"
        )

    # Its processes

    def processes(self) -> list[psutil.Process]:
        """Return all its processes that run: supervisor, listeners, and the helpers of `multiprocess`."""
        return [] if self._started is None else self._started.members()

    def listeners(self) -> dict[int, str]:
        """Return the process id and the copy of each running listener."""
        running = {process.pid for process in self.processes()}
        return {line["pid"]: line["copy"] for line in self.lines("listener started") if line["pid"] in running}

    def signal_listener(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one of its listeners."""
        assert pid in self.listeners(), f"{pid} is no listener of this instance"
        psutil.Process(pid).send_signal(number)

    @property
    def _running(self) -> Group:
        assert self._started is not None, "the daemon was never started"
        return self._started

    def _failed_to_start(self) -> None:
        if self.exit_code is not None:
            pytest.fail(f"the daemon ended with {self.exit_code} instead of starting: {self.log_file.read_text()}")


def _merged(ours: dict[str, dict[str, object]], more: Tables) -> dict[str, dict[str, object]]:
    return {table: {**ours.get(table, {}), **more.get(table, {})} for table in {**ours, **more}}


def _toml(tables: Tables) -> str:
    """Write a configuration as TOML; its strings, numbers and booleans look like JSON's."""
    lines = []
    for table, keys in tables.items():
        given = {key: value for key, value in keys.items() if value is not None}
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in given.items())]
    return "\n".join([*lines, ""])


def _parsed(log: Path, event: str | None) -> Iterator[dict[str, Any]]:
    text = log.read_text(encoding="utf-8", errors="replace")
    # The last line may be half written.
    complete = text[: text.rfind("\n") + 1]
    # Most lines are of other events. To find that out by their text takes a hundredth of parsing them.
    sought = "" if event is None else json.dumps(event)
    for line in complete.splitlines():
        if sought not in line:
            continue
        parsed = None
        with contextlib.suppress(ValueError):
            parsed = json.loads(line)
        found = parsed if isinstance(parsed, dict) else {"text": line}
        if event is None or found.get("event") == event:
            yield found
