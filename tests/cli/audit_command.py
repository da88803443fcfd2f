"""`peruserd audit` as the tests of this folder run it, in their own process."""

import json
from typing import Any

import pytest
import structlog

from peruserd.cli import main, survey
from peruserd.simcluster import SimClusterThread


class Command:
    """Runs `peruserd audit` against node 1, in this process, with the second look at once."""

    def __init__(self, cluster: SimClusterThread, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = cluster.urls[0]
        self._capsys = capsys

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Return its exit code and its output."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(survey, "_AGAIN_SECONDS", 0.0)
            patched.setattr(survey, "_PAUSE_SECONDS", 0.0)
            # Loggers would keep the first stream that they find, and this test's stream is closed at its end.
            before, configure = structlog.get_config(), structlog.configure
            patched.setattr(
                structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False})
            )
            patched.setenv("PERUSERD_COUCHDB_URL", self._url)
            patched.setenv("PERUSERD_STATE_DIRECTORY", "/nonexistent/state")
            for name, value in more.items():
                patched.setenv(name, value)
            try:
                code = main(["audit", *arguments])
            finally:
                configure(**before)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def listed(self, *arguments: str) -> tuple[int, dict[str, list[str]], dict[str, Any]]:
        """Return the exit code, the findings by user, and the whole result as JSON."""
        code, said, error = self.run("--json", *arguments)
        assert said, error
        result: dict[str, Any] = json.loads(said)
        return code, {each["user"]: each["findings"] for each in result["left"]}, result


def served(cluster: SimClusterThread, count: int) -> list[str]:
    """Sign users up with their databases, and return them."""
    return cluster.seed_users(count, provisioned_prefix="userdb-")
