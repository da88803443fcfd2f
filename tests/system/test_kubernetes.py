"""The environment and the probes of the manifests for Kubernetes, with a daemon that runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread
from tests.manifests import MANIFESTS, environment, probes
from tests.system.daemon import Daemon
from tests.waiting import eventually


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_probes_of_a_pod_succeed(
    manifest: str, cluster: SimClusterThread, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The variables alone configure the daemon. Only addresses and paths of the pod are others here."""
    variables = environment(manifest)
    password = tmp_path / "password"
    password.write_text("pass")
    here = {
        "PERUSERD_COUCHDB_URL": cluster.urls[0],
        "PERUSERD_COUCHDB_USERNAME": "adm",
        "PERUSERD_COUCHDB_PASSWORD_FILE": str(password),
        "PERUSERD_HTTP_LISTEN": "127.0.0.1:0",
    }
    assert set(here) <= set(variables)
    daemon = make_daemon(
        url=cluster.urls[0],
        config={"couchdb": {"url": None}, "http": {"listen": None}},
        environment=variables | here,
    ).start()
    for path in probes(manifest).values():
        eventually(lambda path=path: daemon.get(path).status_code == 200, path)  # type: ignore[misc]
    assert daemon.stop() == 0
