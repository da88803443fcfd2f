"""The work of an instance for deletions beside its listeners: watching the journal and taking orders.

With a configuration that lets nothing wait the journal is not watched, and an idle instance asks for nothing more.
"""

from collections.abc import Callable

from peruserd.core.configuration.config import Config
from peruserd.core.deletions.journal import Pause
from peruserd.core.processes.messages import JournalNews
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.journal import Journal
from peruserd.couch.session import Session
from peruserd.daemon.operator import Operator
from peruserd.supervisor.journal_watch import JournalWatch

# How many looks at the cluster there are to one at the journal: what an operator says can take that long.
_LOOKS = 2


class DeletionOffice:
    """The watch and the operator's desk of one instance; `session` is theirs alone."""

    def __init__(
        self,
        config: Config,
        session: Session,
        *,
        is_usable: Callable[[], bool],
        on_news: Callable[[JournalNews], None],
        instance: Callable[[], str],
    ) -> None:
        self._session = session
        journal = DeletionJournal(Journal(self._session, config.cluster.database))
        self._watch = None
        if config.deletion.uses_journal:
            self._watch = JournalWatch(
                journal,
                is_usable=is_usable,
                on_news=on_news,
                interval_seconds=_LOOKS * config.cluster.poll_interval,
            )
        self.operator = Operator(journal, prefix=config.databases.prefix, instance=instance, on_change=self._on_change)

    def pause(self) -> Pause | None:
        """Return whether all drops wait, as far as it is known; None where nothing is ever dropped."""
        return None if self._watch is None else self._watch.pause

    def start(self) -> None:
        """Begin to watch."""
        if self._watch is not None:
            self._watch.start()

    def stop(self) -> None:
        """Watch no more, and carry nothing out any more."""
        self._session.interrupt()
        if self._watch is not None:
            self._watch.stop()

    def _on_change(self) -> None:
        if self._watch is not None:
            self._watch.look_soon()
