"""The status line of systemd, put together from the parts of an instance."""

from collections.abc import Callable

from peruserd.core.processes.status_line import Condition, sentence
from peruserd.daemon.health import Health
from peruserd.daemon.metrics import Reloaded
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.peruser_watch import PeruserWatch


class StatusLine:
    """Makes the status line. `reloaded` returns how the last reload went."""

    def __init__(
        self, health: Health, supervisor: Supervisor, peruser_watch: PeruserWatch, reloaded: Callable[[], Reloaded]
    ) -> None:
        self._health = health
        self._supervisor = supervisor
        self._peruser_watch = peruser_watch
        self._reloaded = reloaded

    def __call__(self, healthy: tuple[bool, str]) -> str | None:
        """Return the sentence of this moment; None while the instance stops, which has said why it does."""
        if self._supervisor.stopping:
            return None
        views = self._supervisor.views
        return sentence(
            Condition(
                healthy=healthy,
                ready=self._health.ready(),
                plan=self._supervisor.sentence,
                away=() if views is None else views[1].away,
                couch_peruser=self._peruser_watch.is_on,
                failing=self._health.failing(),
                refused=self._reloaded().refused,
            )
        )
