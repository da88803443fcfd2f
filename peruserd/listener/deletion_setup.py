"""Building a listener's deletions from their parts, and the check whether this instance owns a document."""

import threading
from collections.abc import Callable

from peruserd.core.cluster.views import Feed
from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes.messages import ListenerStart
from peruserd.core.users.evidence import judge
from peruserd.couch.client import Client
from peruserd.couch.copies import open_copies
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.drop_facts import open_drop_facts_reader
from peruserd.couch.journal import Journal
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.listener.change_tracker import ChangeTracker
from peruserd.listener.deletions import Deletions
from peruserd.listener.dropping import Tools


class Owned:
    """Says whether this instance owns a document now and will keep it; any thread may call."""

    def __init__(self, instance: str, ownership: Ownership, upcoming: Ownership | None) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._ownerships = (ownership, upcoming)
        self._tests = self._made(ownership, upcoming)

    def __call__(self, document_id: str) -> bool:
        """Say whether the document is owned; one that moves to another instance soon counts as not owned."""
        return all(test(document_id) for test in self._tests)

    def change(self, ownership: Ownership, upcoming: Ownership | None) -> bool:
        """Put these ownerships in force; say whether anything changed."""
        with self._lock:
            if (ownership, upcoming) == self._ownerships:
                return False
            self._ownerships = (ownership, upcoming)
            self._tests = self._made(ownership, upcoming)
            return True

    def _made(self, ownership: Ownership, upcoming: Ownership | None) -> list[Callable[[str], bool]]:
        return [
            test
            for each in (ownership, upcoming)
            if each is not None
            for test in (each.is_inside, each.belongs_to(self._instance))
        ]


def open_deletions(
    start: ListenerStart, tokens: Tokens, workers: Client, tracker: ChangeTracker, owned: Owned
) -> tuple[Deletions, Session]:
    """Return the deletions of a listener, and the session of their thread, so that the caller can interrupt it.

    `workers` is the client of the workers, who note deletions by it. Its requests wait until the server lets the
    instance in. Requests of the session do not wait, because a drop must follow its reads at once.
    """

    def tools(client: Client) -> Tools:
        copies = open_copies(client, start.copy)
        return Tools(
            prefix=start.databases.prefix,
            client=client,
            copies=copies,
            facts=open_drop_facts_reader(client, start.copy, start.cluster_database),
            journal=DeletionJournal(Journal(client.session, start.cluster_database)),
            confirm=lambda document_id: judge(copies.evidence(document_id)),
            look_again=tracker.look_again,
            notes_ends=start.databases.when_deleted is WhenDeleted.REPORT,
        )

    session = Session(start.couchdb, tokens)
    deletions = Deletions(
        tools(Client(session, directory=start.copy.feed is Feed.SHARD)),
        tracker.patient_store,
        noting=tools(workers),
        config=start.deletion,
        instance=start.instance,
        mine=owned,
        on_drop=tracker.count_drop,
        on_failure=tracker.count_deletion_failure,
    )
    return deletions, session
