"""Some requests have shorter time-outs than the configuration's."""

import msgspec

from peruserd.core.configuration.config import CouchDBConfig


def test_long_timeouts_are_cut_and_nothing_else_changes() -> None:
    """A late answer to a probe or to a lease's renewal is useless."""
    given = CouchDBConfig(url="http://127.0.0.1:15984", connect_timeout=7.0, read_timeout=30.0, long_poll_timeout=20.0)
    cut = given.with_timeouts_up_to(5.0)
    assert cut == msgspec.structs.replace(given, connect_timeout=5.0, read_timeout=5.0)


def test_shorter_timeouts_stay() -> None:
    """An operator who wants an answer sooner gets it sooner everywhere."""
    given = CouchDBConfig(connect_timeout=0.5, read_timeout=1.5)
    assert given.with_timeouts_up_to(5.0) == given
