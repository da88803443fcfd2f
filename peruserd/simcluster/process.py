"""The simulated cluster as a process of its own, and the client of its control port."""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPConnection
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from peruserd.simcluster.control_client import ControlClient
from peruserd.simcluster.control_port import decode_response
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.runner import CONTROL_LINE, READY_LINE

# A control can load a hundred thousand users; nothing else takes long.
_TIMEOUT_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 10.0


def start_program(arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Start `peruserd simcluster`, whose output can be read."""
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "peruserd.simcluster", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        # A ^C at the terminal is for the program that runs the cluster. It may still need the cluster at its own end.
        start_new_session=True,
    )


class SimClusterControl(ControlClient):
    """The controls over the control port at `url`, such as `http://127.0.0.1:1234`. Threads can share it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{url!r} names no host and port")
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
        self._lock = Lock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        with self._lock:
            try:
                self._connection.request("POST", f"/{name}", msgspec.json.encode(arguments))
                return decode_response(self._connection.getresponse().read())
            except OSError:
                self._connection.close()
                raise


class SimClusterProcess(SimClusterControl):
    """A context manager that runs `python -m peruserd.simcluster` on free ports and ends it again."""

    def __init__(self, options: ClusterOptions | None = None) -> None:
        self.options = options or ClusterOptions()
        self.urls: list[str] = []
        self.node_names: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The id of the process; RuntimeError where it does not run."""
        if self._process is None:
            raise RuntimeError("the cluster is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start the process and return when its ports are open. RuntimeError where it ends before that."""
        self._process = start_program(command_line(self.options))
        try:
            super().__init__(_control_url(self._process.stdout))
            described = self.describe()
        except BaseException:
            self._end()
            raise
        self.urls, self.node_names = described["urls"], described["node_names"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        self.close()
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def _control_url(output: Iterable[str] | None) -> str:
    """Read the output of the process until it is ready; return the URL of the controls. RuntimeError where it ends."""
    url = None
    for line in map(str.rstrip, output or ()):
        if line == READY_LINE and url is not None:
            return url
        if line.startswith(CONTROL_LINE):
            url = line.removeprefix(CONTROL_LINE)
    raise RuntimeError("the simulated cluster did not start")


def command_line(options: ClusterOptions) -> list[str]:
    """Return the options of `peruserd simcluster` for a cluster. It always serves its controls."""
    return [
        f"--nodes={options.nodes}",
        f"--spare={options.spare}",
        f"--q={options.q}",
        f"--n={options.n}",
        f"--port={options.port}",
        f"--user={options.user}",
        f"--seed={options.seed}",
        f"--replication-delay={options.replication_delay_seconds}",
        f"--split-delay={options.split_delay_seconds}",
        f"--request-seconds={options.request_seconds}",
        f"--control-port={options.control_port or 0}",
    ]
