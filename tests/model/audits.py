"""The auditor of a listener in the model: the real one, without its thread and without waiting."""

import threading
from collections.abc import Callable, Collection
from typing import Any

from peruserd.core.audit.diagnosis import Rules
from peruserd.core.audit.rounds import Pace
from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import DatabasesConfig, DeletionConfig
from peruserd.couch.observing import open_observer
from peruserd.couch.sources import open_source
from peruserd.listener.audit_setup import other_copies
from peruserd.listener.audit_tools import Tools
from peruserd.listener.auditing import Auditor
from peruserd.listener.feed import Stopped


class Patience(threading.Event):
    """A substitute for the stop event of a listener: it is set after so many waits."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and timeout <= 0.0:
            return False
        self.left -= 1
        return self.left < 0


class ModelAudit:
    """Looks at every user of a range in each round that is requested."""

    def __init__(
        self,
        client: Any,
        copy: Copy,
        kept: Any,
        *,
        databases: DatabasesConfig,
        nodes: int,
        mine: Callable[[str], bool],
        look: Callable[[Collection[str]], None],
        clock: Callable[[], float],
    ) -> None:
        self._patience = Patience()
        tools = Tools(
            client=client,
            copy=copy,
            source=open_source(copy, client),
            observer=open_observer(client, copy, databases.prefix),
            others=lambda: other_copies(client, copy),
            rules=lambda: Rules(databases, DeletionConfig(), nodes),
            mine=mine,
            is_calm=lambda: True,
            look=look,
            has_room=lambda: True,
            waits=lambda _document_id: False,
            on_change=lambda: None,
        )
        self._auditor = Auditor(tools, kept, Pace(0.0, 1.0), self._patience, clock)

    def do_round(self, waits: int) -> bool:
        """Do a round, or its beginning up to so many waits; say whether it ended."""
        self._patience.left = waits
        try:
            self._auditor._do_round()
        except Stopped:
            return False
        return True
