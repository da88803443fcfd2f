"""The instance's part in deletions: it watches the journal for its listeners and carries out operators' orders.

If the configuration lets no deletion wait, the journal is not watched, and costs no request.
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

# The journal is read once in this many intervals of the cluster watch. An order can take that long to have an effect.
_LOOKS = 2


class DeletionService:
    """The journal watch and the operator's orders of one instance; no other part uses `session`."""

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
        self._is_usable = is_usable
        self._on_news = on_news
        self._journal = DeletionJournal(Journal(self._session, config.cluster.database))
        self._watch = self._watch_of(config)
        self.operator = Operator(
            self._journal, prefix=config.databases.prefix, instance=instance, on_change=self._on_change
        )

    def pause(self) -> Pause | None:
        """Return the pause of all drops, as far as it is known; None if the configuration never drops anything."""
        return None if self._watch is None else self._watch.pause

    def start(self) -> None:
        """Start the watch."""
        if self._watch is not None:
            self._watch.start()

    def take_over(self, config: Config) -> None:
        """Begin or end to watch the journal, as a new configuration needs it, or take its interval."""
        if self._watch is not None and config.deletion.uses_journal:
            self._watch.set_interval(_interval(config))
            return
        before, self._watch = self._watch, self._watch_of(config)
        if before is not None:
            before.stop()
        self.start()

    def stop(self) -> None:
        """End the watch, and carry out no more orders."""
        self._session.interrupt()
        if self._watch is not None:
            self._watch.stop()

    def _watch_of(self, config: Config) -> JournalWatch | None:
        if not config.deletion.uses_journal:
            return None
        return JournalWatch(
            self._journal,
            is_usable=self._is_usable,
            on_news=self._on_news,
            interval_seconds=_interval(config),
        )

    def _on_change(self) -> None:
        if self._watch is not None:
            self._watch.read_soon()


def _interval(config: Config) -> float:
    return _LOOKS * config.cluster.poll_interval
