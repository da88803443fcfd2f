"""A real Prometheus, which scrapes instances and evaluates the exported rules."""

import json
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import requests

from peruserd.monitoring.exported import RULES_FILE
from tests.system.processes import Started
from tests.waiting import eventually

# Ten scrapes within the shortest range of the rules, which is five minutes at the scale of a test.
SCRAPE_SECONDS = 0.3


class Prometheus:
    """Prometheus on a free loopback port, with its data in `directory`, which holds the exported rules.

    This is a context manager: at its end the process is gone, and a failed test shows its log.
    """

    def __init__(self, program: str, directory: Path, targets: Iterable[str]) -> None:
        self._directory = directory
        self._log = directory / "prometheus.log"
        config = {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS * 1000:.0f}ms", "scrape_timeout": "300ms"},
            "rule_files": [RULES_FILE],
            "scrape_configs": [{"job_name": "peruserd", "static_configs": [{"targets": list(targets)}]}],
        }
        # JSON is YAML too.
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self._port = _free_port()
        self._process = Started(
            [
                program,
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{self._port}",
                # Targets are found within five seconds. Another five would pass until they are scraped.
                "--scrape.discovery-reload-interval=100ms",
            ],
            output=self._log,
            cwd=directory,
        )
        self._http = requests.Session()
        self._http.trust_env = False

    def __enter__(self) -> Self:
        try:
            eventually(self._is_up, "Prometheus answers")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the process, and remove its data."""
        self._process.end()
        self._http.close()
        print(f"--- the end of {self._log}", *self._log.read_text(errors="replace").splitlines()[-20:], sep="\n")
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression as they are now; fail if Prometheus does not understand it."""
        answer = self._get("query", query=expression)
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> dict[str, dict[str, str]]:
        """Return the annotations of each alert that fires, by its name."""
        alerts = self._get("alerts")["data"]["alerts"]
        return {each["labels"]["alertname"]: each["annotations"] for each in alerts if each["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules as Prometheus sees them."""
        return [rule for group in self._get("rules")["data"]["groups"] for rule in group["rules"]]

    def _get(self, page: str, **params: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._port}/api/v1/{page}"
        found: dict[str, Any] = self._http.get(url, params=params, timeout=30).json()
        return found

    def _is_up(self) -> bool:
        assert self._process.exit_code is None, self._log.read_text(errors="replace")
        try:
            return self._http.get(f"http://127.0.0.1:{self._port}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
