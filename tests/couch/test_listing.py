"""Lists of databases, page by page, from servers with and without keys and limits."""

import pytest

from peruserd.core.configuration.config import DatabasesConfig
from peruserd.couch import listing
from peruserd.couch.client import Client
from peruserd.couch.listing import databases_after, databases_with
from tests.couch.connecting import TalkingServer, answering, connect


def test_all_names_with_a_prefix_come_page_by_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is left out or comes twice, and none has another prefix."""
    monkeypatch.setattr(listing, "_PAGE", 2)
    names = [f"mine-{number}" for number in range(4)]
    for name in [*names, "mind", "mines"]:
        client.create_database(name, DatabasesConfig())
    pages = list(databases_with(client, "mine-"))
    assert [name for page in pages for name in page] == names
    assert max(map(len, pages)) == 2
    assert databases_after(client, "mine-", "mine-1", 10) == (["mine-2", "mine-3"], True)
    assert databases_after(client, "mine-", "mine-1", 1) == (["mine-2"], False)


def test_a_server_that_sends_everything_each_time_ends_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have exactly as many databases as a page has."""
    monkeypatch.setattr(listing, "_PAGE", 3)
    with TalkingServer(answering({("GET", "/_all_dbs"): (200, ["a", "mine-1", "mine-2"])})) as server:
        pages = list(databases_with(connect(server.url), "mine-"))
    assert pages[0] == ["mine-1", "mine-2"]
    assert len(pages) == 2
