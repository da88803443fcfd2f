"""The journal's database on a server with a single instance."""

from typing import Any

import pytest

from peruserd.core.cluster.cluster_database import ADMINS_ONLY, MARKER_ID
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.deletions.journal import PauseReason, Saying, Word
from peruserd.couch import errors
from peruserd.couch.client import Client
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.couch.single_journal import prepare_journal
from peruserd.simcluster import SimClusterThread

# A name may have any character that CouchDB allows.
NAMES = ["peruserd", "own/journal+1"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_made_marked_and_closed(client: Client, name: str) -> None:
    """The database is made once, and is in order from then on."""
    for _ in range(2):
        assert prepare_journal(client, name)
        assert client.security(name) == ADMINS_ONLY
        assert len(Journal(client.session, name).read(MARKER_ID).leaves) == 1


@pytest.mark.parametrize("security", [None, {}])
@pytest.mark.parametrize("name", NAMES)
def test_a_making_that_was_cut_short_is_gone_on_with(
    client: Client, name: str, security: dict[str, Any] | None
) -> None:
    """The process ended after it had made the database, on servers with both defaults."""
    client.create_database(name, DatabasesConfig())
    if security is not None:
        client.put_security(name, security)
    assert prepare_journal(client, name)
    assert client.security(name) == ADMINS_ONLY


@pytest.mark.parametrize("what", ["documents", "members", "marker"])
def test_somebody_elses_database_is_left_alone(client: Client, what: str) -> None:
    """The database has documents, gives somebody access, or has another document instead of the marker."""
    client.create_database("peruserd", DatabasesConfig())
    if what == "members":
        client.put_security("peruserd", {"members": {"names": ["eve"]}})
    else:
        name = MARKER_ID if what == "marker" else "recipe"
        client.put_document("peruserd", name, {"type": "something else"})
    before = client.security("peruserd")
    assert not prepare_journal(client, "peruserd")
    assert client.security("peruserd") == before


@pytest.mark.parametrize("path", [None, "/peruserd/pause", "/peruserd/word"])
def test_one_that_was_opened_is_closed_and_distrusted(
    cluster: SimClusterThread, client: Client, path: str | None
) -> None:
    """The process may end between the two steps, or a request may fail. Until both are done there is no use of it."""
    assert prepare_journal(client, "peruserd")
    journal = DeletionJournal(Journal(client.session, "peruserd"))
    journal.say("deletion:userdb-61:2-a", lambda _: Saying(Word.DROP_NOW))
    client.put_security("peruserd", {"members": {"names": ["eve"]}})
    if path is not None:
        cluster.fail(1, 500, path_regex=path)
        with pytest.raises(errors.ServerError):
            prepare_journal(client, "peruserd")
        assert "eve" not in str(client.security("peruserd"))
        cluster.clear_faults()
    assert prepare_journal(client, "peruserd")
    assert client.security("peruserd") == ADMINS_ONLY
    assert journal.pause().why is PauseReason.EXPOSED
    assert journal.saying("deletion:userdb-61:2-a").word is Word.HOLD
