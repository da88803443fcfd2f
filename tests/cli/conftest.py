"""Configurations for commands, and `peruserd audit` in the process of a test."""

from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread
from tests.cli.audit_command import Command


@pytest.fixture
def config(cluster: SimClusterThread, tmp_path: Path) -> str:
    """Write a configuration for the cluster's first node."""
    path = tmp_path / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n[state]\ndirectory = "{tmp_path}/state"\n')
    return str(path)


@pytest.fixture
def command(cluster: SimClusterThread, capsys: pytest.CaptureFixture[str]) -> Command:
    """`peruserd audit` against the cluster."""
    return Command(cluster, capsys)
