"""Instances and clusters of benchmarks are forks in tests."""

from collections.abc import Iterator

import pytest

from tests.system.programs import forked_programs


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with forked_programs(tmp_path_factory.mktemp("clusters")):
        yield
