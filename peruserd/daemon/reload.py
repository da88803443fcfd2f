"""The reload of the configuration: the file is read again and checked whole, and the parts take over what they can.

Reading can take long, for example from a slow disk, so it has a thread of its own. A file with a mistake changes
nothing. Requests that come while the file is read cause another reading after it, because the file may have changed
since.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from peruserd import logs, threads
from peruserd.core.configuration.changes import Changes, Settings, compare, taken_over
from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError, Loaded
from peruserd.core.configuration.problems import TemporaryError
from peruserd.core.users.templates import Templates
from peruserd.couch.credentials import CredentialSource
from peruserd.daemon.metrics import Reloaded
from peruserd.daemon.systemd import Notifier
from peruserd.daemon.templates import load_templates
from peruserd.repeated_task import RepeatedTask

Read = Callable[[], tuple[Loaded, CredentialSource]]
"""Reads the configuration and the account as at the start; raises ConfigError."""

# Nothing is due without a request.
_IDLE_SECONDS: Final = 3_600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class InForce:
    """A configuration, with the account and the templates that were read with it."""

    config: Config
    source: CredentialSource
    templates: Templates

    @property
    def settings(self) -> Settings:
        """Return the values that `compare` takes."""
        credentials = self.source.credentials
        return Settings(self.config, None if credentials is None else credentials.username, self.templates.digest)


class Reload(msgspec.Struct, frozen=True):
    """The result of one reload. `mistakes` are those of the file, and `trouble` is any other reason why it failed."""

    changes: Changes = Changes()
    mistakes: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """Return why the configuration before stays in force; nothing after a success."""
        return (*self.mistakes, *([self.trouble] if self.trouble else []))


class Reloader:
    """Reloads on request, one reload at a time. `take_over` hands a new configuration to the parts of the instance.

    Any thread may read `in_force`, the configuration in force, and `record`, how the last reload went.
    """

    def __init__(
        self,
        in_force: InForce,
        read: Read,
        take_over: Callable[[InForce, Changes], None],
        notifier: Notifier,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.in_force = in_force
        self._read = read
        self._take_over = take_over
        self._notifier = notifier
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._waiting: list[Future[Reload]] = []
        self._stopped = False
        self._task = RepeatedTask("reload", self._turn, at_end=self._refuse_all)
        self.record = Reloaded(successful=True, success_at=wall_clock())

    def start(self) -> None:
        """Start the thread."""
        self._task.start()

    def stop(self) -> None:
        """Reload no more. A reload under way goes on until the process ends."""
        self._task.stop()

    def request(self) -> Future[Reload]:
        """Ask for a reload; for any thread."""
        asked: Future[Reload] = Future()
        with self._lock:
            if self._stopped:
                asked.set_result(_STOPPING)
            else:
                self._waiting.append(asked)
        self._task.soon()
        return asked

    def _turn(self) -> float:
        if waiting := self._take_waiting():
            result = self._reload()
            for each in waiting:
                each.set_result(result)
        return _IDLE_SECONDS

    def _take_waiting(self) -> list[Future[Reload]]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _refuse_all(self) -> None:
        with self._lock:
            self._stopped = True
        for each in self._take_waiting():
            each.set_result(_STOPPING)

    def _reload(self) -> Reload:
        # During the start `ready` would end the start.
        tells_systemd = self._notifier.is_ready
        if tells_systemd:
            self._notifier.reloading()
        try:
            result = self._try()
        except TemporaryError as error:
            result = Reload(trouble="; ".join(error.problems))
        except ConfigError as error:
            result = Reload(mistakes=tuple(error.problems))
        except Exception as error:
            # Without this thread no later configuration would be taken over.
            log.exception("the configuration could not be reloaded")
            result = Reload(trouble=f"an unforeseen failure, after which a restart is better: {error!r}")
        self._report(result)
        if tells_systemd:
            self._notifier.ready()
        return result

    def _try(self) -> Reload:
        # A disk that does not answer is no fault of this thread, and a restart would wait for it as well.
        with threads.WAITING:
            loaded, source = self._read()
            before, after = self.in_force, InForce(loaded.config, source, load_templates(loaded.config))
        changes = compare(before.settings, after.settings)
        if after.config.log.audit_file != before.config.log.audit_file:
            logs.check_audit_file(after.config.log)
        self.in_force = InForce(
            taken_over(before.config, after.config, changes),
            before.source if changes.keeps_account else after.source,
            after.templates,
        )
        self._take_over(self.in_force, changes)
        return Reload(changes)

    def _report(self, result: Reload) -> None:
        before = self.record
        if result.problems:
            self.record = msgspec.structs.replace(before, successful=False, refused=result.problems[0])
            for problem in result.problems:
                log.error("configuration refused; the one before stays in force", error=problem)
            return
        self.record = Reloaded(successful=True, success_at=self._wall_clock())
        log.info("configuration read again", at_once=result.changes.at_once, with_listeners=result.changes.listeners)
        if result.changes.kept:
            log.warning("restart peruserd to apply these keys; their old values are in force", keys=result.changes.kept)


_STOPPING: Final = Reload(trouble="this instance is stopping")
