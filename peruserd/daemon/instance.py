"""One running instance, from its configuration to its exit code."""

import faulthandler
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import disable_created_metrics

from peruserd import __version__
from peruserd.core.config import Config
from peruserd.core.decoding import ConfigError, split_address
from peruserd.core.lifecycle import EXIT_CONFIGURATION, RestartBudget, Timing
from peruserd.core.messages import Credentials, ListenerStart
from peruserd.core.views import Assignment, Copy
from peruserd.couch.client import Client
from peruserd.couch.errors import CouchError, UnauthorizedError
from peruserd.couch.session import Session
from peruserd.daemon.http import HTTPServer, Page
from peruserd.daemon.metrics import InstanceCollector
from peruserd.daemon.systemd import Notifier
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.loop import LONGEST_WAIT_SECONDS, Supervisor
from peruserd.supervisor.watcher import Lookout, NoShardsError, Watcher

DEFAULT_STATE_DIRECTORY: Final = "/var/lib/peruserd"

# More restarts than this within ten minutes are no single listener's bad luck.
_BUDGET: Final = RestartBudget(burst=60, period_seconds=600.0)

# A loop that missed this many of its rounds hangs.
_MISSED_ROUNDS: Final = 3

log = structlog.get_logger(__name__)


def state_directory(config: Config) -> Path:
    """Return where state is kept: as configured, else systemd's directory, else the usual one."""
    return Path(config.state.directory or os.environ.get("STATE_DIRECTORY") or DEFAULT_STATE_DIRECTORY)


def state_file(directory: Path, copy: Copy) -> Path:
    """Return the state file of one copy: its name says which, whatever its node is called."""
    parts = (copy.database, copy.node, str(copy.range), copy.feed.value + copy.suffix)
    return directory / ("~".join(quote(part, safe="@") for part in parts) + ".sqlite")


def run(config: Config, credentials: Credentials | None, notifier: Notifier) -> int:
    """Run the instance until it is told to stop; return the exit code."""
    faulthandler.enable()
    directory = state_directory(config)
    _check_directory(directory)
    session = Session(config.couchdb, credentials)
    lookout = Lookout(Client(session), config.couchdb)
    if not _attach_first(lookout):
        return EXIT_CONFIGURATION
    fleet = Fleet(
        _start_messages(config, credentials, directory, lookout),
        most_in_flight=config.provisioning.max_in_flight,
        timing=Timing(),
        budget=_BUDGET,
    )
    supervisor = Supervisor(
        fleet, make_plan=lookout.plan, quiet_seconds=config.cluster.quiet_period, tell=notifier.status
    )
    server = _serve(config, fleet, supervisor)
    watcher = Watcher(lookout.look, interval_seconds=config.cluster.poll_interval, on_view=supervisor.on_view)
    log.info("started", version=__version__, pid=os.getpid(), state=str(directory), http=f"{server.host}:{server.port}")
    watcher.start()
    notifier.ready()
    try:
        outcome = supervisor.run()
    finally:
        notifier.stopping()
        watcher.stop()
        session.interrupt()
        server.stop()
    log.info("stopped", code=int(outcome))
    return int(outcome)


def _check_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = directory / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError([f"state.directory: cannot write to {directory}: {error.strerror}"]) from error


def _attach_first(lookout: Lookout) -> bool:
    """Try once to attach, so that a mistake in the configuration ends the start; a node that is away does not."""
    try:
        lookout.attach()
    except (UnauthorizedError, NoShardsError) as error:
        log.error("cannot start", error=str(error), advice="check [couchdb] in the configuration")  # noqa: TRY400
        return False
    except CouchError as error:
        log.warning("waiting for CouchDB", kind=error.kind, error=str(error))
    return True


def _start_messages(
    config: Config, credentials: Credentials | None, directory: Path, lookout: Lookout
) -> Callable[[Assignment, int], ListenerStart]:
    def start_message(assignment: Assignment, share: int) -> ListenerStart:
        return ListenerStart(
            copy=assignment.copy,
            ownership=assignment.ownership,
            instance=lookout.attach().node,
            couchdb=config.couchdb,
            credentials=credentials,
            databases=config.databases,
            deletion=config.deletion.policy,
            log=config.log,
            state_file=str(state_file(directory, assignment.copy)),
            share=share,
            most_in_flight=config.provisioning.max_in_flight,
        )

    return start_message


def _serve(config: Config, fleet: Fleet, supervisor: Supervisor) -> HTTPServer:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(InstanceCollector(fleet))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    def healthy() -> tuple[bool, str]:
        silent = time.monotonic() - supervisor.last_round
        if silent > _MISSED_ROUNDS * LONGEST_WAIT_SECONDS:
            return False, f"the supervisor's loop has not gone round for {silent:.0f} s"
        if not fleet.status().healthy:
            return False, "a listener has given up; the log says why"
        return True, "ok"

    def ready() -> tuple[bool, str]:
        status = fleet.status()
        behind = [str(each.copy) for each in status.listeners if each.report is None or not each.report.caught_up]
        if not status.listeners:
            return False, "no listener: waiting for CouchDB or for the authentication database"
        return status.ready, "ok" if status.ready else f"not caught up: {', '.join(behind) or 'starting'}"

    host, port = split_address(config.http.listen)
    try:
        server = HTTPServer(Page(registry, healthy=healthy, ready=ready), host, port)
    except OSError as error:
        raise ConfigError([f"http.listen: cannot listen on {config.http.listen}: {error.strerror}"]) from error
    server.start()
    return server
