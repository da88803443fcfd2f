"""Configurations for commands."""

from pathlib import Path

import pytest

from peruserd.simcluster import SimClusterThread


@pytest.fixture
def config(cluster: SimClusterThread, tmp_path: Path) -> str:
    """Write a configuration for the cluster's first node."""
    path = tmp_path / "peruserd.toml"
    path.write_text(f'[couchdb]\nurl = "{cluster.urls[0]}"\n[state]\ndirectory = "{tmp_path}/state"\n')
    return str(path)
