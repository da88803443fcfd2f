"""The instances of the demo: `peruserd run` as processes of their own, one beside each simulated node."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
import psutil
import requests
from prometheus_client.parser import text_string_to_metric_families

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.02

Samples = dict[str, list[tuple[dict[str, str], float]]]
"""Metric samples by name: labels and value of each."""


class InstanceFailedError(Exception):
    """An instance ended, or did not come up; the message ends with the last lines of its log."""


class _StartedLine(msgspec.Struct):
    event: str = ""
    http: str = ""


def start_program(environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `peruserd run`, whose output is added to a log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "peruserd", "run"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A ^C at the terminal ends the demo, which then stops its instances in order.
            start_new_session=True,
        )


class Instance:
    """One instance: the process, its log, its HTTP page.

    Its state is in `directory`, where the next instance of the same node finds it. `settings` are environment variables
    of the configuration.
    """

    def __init__(self, url: str, node: str, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.node = node
        self._log = directory / f"{node}.log"
        parts = urlsplit(url)
        # The log is emptied, because it may hold the address of an earlier instance of this node.
        self._log.write_bytes(b"")
        self._process = start_program(
            {
                **os.environ,
                "PERUSERD_COUCHDB_URL": f"{parts.scheme}://{parts.hostname}:{parts.port}",
                "PERUSERD_COUCHDB_USERNAME": parts.username or "",
                "PERUSERD_COUCHDB_PASSWORD": parts.password or "",
                "PERUSERD_STATE_DIRECTORY": str(directory / node),
                "PERUSERD_HTTP_LISTEN": "127.0.0.1:0",
                "PERUSERD_LOG_FORMAT": "json",
                **(settings or {}),
            },
            self._log,
        )
        self._address: str | None = None
        self._http = requests.Session()
        self._http.trust_env = False

    @property
    def page(self) -> str:
        """Return the URL of its status page, once it is up."""
        return f"http://{self._address}/"

    def wait_until_up(self) -> None:
        """Wait until the HTTP page answers; raises InstanceFailedError."""
        deadline = time.monotonic() + _START_SECONDS
        while self._address is None:
            self.check()
            self._address = self._started_address()
            if self._address is None:
                if time.monotonic() > deadline:
                    raise InstanceFailedError(f"{self.node} did not start in time:\n{self.last_lines()}")
                time.sleep(0.05)

    def check(self) -> None:
        """Raise InstanceFailedError if the process has ended."""
        if self._process.poll() is not None:
            raise InstanceFailedError(f"{self.node} ended with {self._process.returncode}:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])

    def samples(self) -> Samples:
        """Return the metrics as they are now; raises requests.RequestException."""
        text = self._http.get(f"http://{self._address}/metrics", timeout=5.0).text
        samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        return samples

    def is_ready(self) -> bool:
        """Say whether all its listeners have caught up; raises requests.RequestException."""
        return self._http.get(f"http://{self._address}/readyz", timeout=5.0).ok

    def listener_pids(self) -> list[int]:
        """Return the process ids of its listeners, ascending."""
        # Listeners are grandchildren: the child in between is the fork server, which is no listener itself.
        children = psutil.Process(self._process.pid).children()
        return sorted(each.pid for child in children for each in _children(child))

    def processes(self) -> list[psutil.Process]:
        """Return its process and all descendants of it."""
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def kill(self) -> None:
        """Kill its process, and wait until that and all descendants have ended."""
        descendants = self.processes()
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + _STOP_SECONDS
        while not all(map(_has_ended, descendants[1:])) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end and return the exit code; kill it if it does not end in time."""
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _started_address(self) -> str | None:
        for line in self._log.read_bytes().splitlines():
            try:
                started = msgspec.json.decode(line, type=_StartedLine)
            except msgspec.MsgspecError:
                # This line is not JSON (a traceback). `check` reports it if the process ends.
                continue
            if started.event == "started":
                return started.http
        return None


class Instances:
    """All instances; leaving the context stops them, whatever happened."""

    def __init__(self, urls: Iterable[str], nodes: Iterable[str], directory: Path) -> None:
        self.all = [Instance(url, node, directory) for url, node in zip(urls, nodes, strict=True)]

    def __enter__(self) -> Self:
        """Return once every instance is up."""
        try:
            for each in self.all:
                each.wait_until_up()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them all."""
        self._stop()

    def check(self) -> None:
        """Raise InstanceFailedError if one has ended."""
        for each in self.all:
            each.check()

    def total(self, name: str) -> float:
        """Return a counter summed over labels and instances."""
        return sum(value for each in self.all for _, value in each.samples().get(name, []))

    def _stop(self) -> None:
        for each in self.all:
            each.terminate()
        for each in self.all:
            each.wait()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def _has_ended(process: psutil.Process) -> bool:
    # In some containers it takes seconds until the ended children of an ended process are reaped.
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
