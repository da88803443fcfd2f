"""One running instance, from its configuration to its exit code."""

import faulthandler
import os
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import disable_created_metrics

from peruserd import __version__
from peruserd.core.agreement import configuration_digest
from peruserd.core.config import ClusterConfig, Config, CouchDBConfig
from peruserd.core.decoding import ConfigError, split_address
from peruserd.core.lifecycle import EXIT_CONFIGURATION, RestartBudget, Timing
from peruserd.core.messages import Credentials, ListenerStart
from peruserd.core.settling import Settling
from peruserd.core.views import Feed, View
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError
from peruserd.couch.errors import CouchError, UnauthorizedError
from peruserd.couch.session import Session
from peruserd.daemon.claim import Claim, InUseError
from peruserd.daemon.health import Health
from peruserd.daemon.http import HTTPServer, Page
from peruserd.daemon.metrics import InstanceCollector
from peruserd.daemon.state import StateDirectory
from peruserd.daemon.systemd import Notifier
from peruserd.supervisor import forkserver
from peruserd.supervisor.fleet import Fleet, StartMessage, StartRequest
from peruserd.supervisor.heart import Heart
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.map_watch import MapWatch
from peruserd.supervisor.presence import Presence
from peruserd.supervisor.second_writer import SecondWriter
from peruserd.supervisor.watcher import Lookout, NoShardsError, Watcher

# More restarts than this within ten minutes are no single listener's bad luck.
_BUDGET: Final = RestartBudget(burst=60, period_seconds=600.0)

# A lease that cannot be written within this is late already, and a stop must not hang on the last one.
_LONGEST_BEAT_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


def run(config: Config, credentials: Credentials | None, notifier: Notifier) -> int:
    """Run the instance until it is told to stop; return the exit code."""
    faulthandler.enable()
    state = StateDirectory.configured(config)
    state.prepare()
    try:
        claim = Claim.take(state.path)
    except InUseError as error:
        log.error("cannot start", error=str(error))  # noqa: TRY400 - the sentence says it all
        return os.EX_TEMPFAIL
    try:
        return _run(config, credentials, notifier, state, claim)
    finally:
        claim.release()


def _run(
    config: Config, credentials: Credentials | None, notifier: Notifier, state: StateDirectory, claim: Claim
) -> int:
    # Before there is anything to listen to, so that its imports are done by then.
    forkserver.begin()
    presence = Presence(
        incarnation=claim.incarnation,
        replaces=claim.replaces,
        ttl_seconds=config.cluster.lease_ttl,
        version=__version__,
        digest=configuration_digest(config),
    )
    session = Session(config.couchdb, credentials)
    # A copy that does not answer must not keep the watcher from the others for long; nor a setting that is hidden.
    database_session = Session(_hasty(config), credentials)
    database = ClusterDatabase(Client(database_session), config.cluster.database, mend=True)
    second_writer = SecondWriter(Client(database_session))
    lookout = Lookout(Client(session), config.couchdb, presence, database, second_writer)
    if not _attach_first(lookout):
        return EXIT_CONFIGURATION

    def on_view(view: View) -> None:
        heart.notice(view)
        supervisor.on_view(view)
        if database.state.refused and not database.was_usable:
            supervisor.give_up(database.state.why)

    def shard_node() -> str | None:
        attachment = lookout.attach()
        return attachment.node if attachment.feed is Feed.SHARD else None

    def look() -> View:
        try:
            return lookout.look()
        except CouchError:
            supervisor.lose_sight()
            raise

    watcher = Watcher(look, interval_seconds=config.cluster.poll_interval, on_view=on_view)
    fleet = Fleet(
        _start_messages(config, credentials, state, lookout),
        most_in_flight=config.provisioning.max_in_flight,
        timing=Timing(),
        budget=_BUDGET,
        retired_files=state.retired,
        on_copy_lost=watcher.look_soon,
    )
    supervisor = Supervisor(
        fleet,
        make_plan=lookout.plan,
        settling=Settling(config.cluster.quiet_period, config.cluster.lease_ttl, expected=claim.expected),
        remember=_remembering(claim),
        tell=notifier.status,
    )
    health = Health(fleet, supervisor, database)
    heart_session = Session(_hasty(config), credentials)
    heart = Heart(
        Client(heart_session),
        presence,
        database=database,
        interval_seconds=config.cluster.lease_interval,
        node=shard_node,
        is_alive=health.goes_round,
    )
    map_watch = _watch_maps(config, credentials, shard_node, database, watcher)
    server = _serve(config, InstanceCollector(fleet, supervisor, heart, health, database, second_writer), health)
    presence.set_address(f"{server.host}:{server.port}")

    def begin() -> None:
        log.info(
            "started",
            version=__version__,
            pid=os.getpid(),
            incarnation=claim.incarnation,
            state=str(state.path),
            http=f"{server.host}:{server.port}",
        )
        watcher.start()
        map_watch.start()
        heart.start()
        notifier.ready()

    try:
        outcome = supervisor.run(begin)
    finally:
        notifier.stopping()
        watcher.stop()
        session.interrupt()
        database_session.interrupt()
        map_watch.stop()
        heart.stop()
        server.stop()
    log.info("stopped", code=int(outcome))
    return int(outcome)


def _remembering(claim: Claim) -> Callable[[tuple[str, ...]], None]:
    def remember(instances: tuple[str, ...]) -> None:
        try:
            claim.remember(instances)
        except OSError as error:
            log.warning("the next start will expect the instances of an earlier time", error=str(error))

    return remember


def _watch_maps(
    config: Config,
    credentials: Credentials | None,
    node: Callable[[], str | None],
    database: ClusterDatabase,
    watcher: Watcher,
) -> MapWatch:
    def look_at_copies() -> None:
        database.suspect()
        watcher.look_soon()

    on_change = {config.couchdb.auth_db: watcher.look_soon, database.name: look_at_copies}
    return MapWatch(Client(Session(config.couchdb, credentials)), node=node, on_change=on_change)


def _hasty(config: Config) -> CouchDBConfig:
    """Return how to reach the node for what is worth nothing when it is late."""
    couchdb = config.couchdb
    return msgspec.structs.replace(
        couchdb,
        connect_timeout=min(couchdb.connect_timeout, _LONGEST_BEAT_SECONDS),
        read_timeout=min(couchdb.read_timeout, _LONGEST_BEAT_SECONDS),
    )


def _recall_seconds(cluster: ClusterConfig) -> float:
    """Return for how long two instances can act on the same document, because one has not noticed the other yet."""
    return cluster.lease_ttl + cluster.quiet_period + 2 * cluster.poll_interval


def _attach_first(lookout: Lookout) -> bool:
    """Try once to attach, so that a mistake in the configuration ends the start; a node that is away does not."""
    try:
        lookout.prepare()
    except (UnauthorizedError, NoShardsError) as error:
        log.error("cannot start", error=str(error), advice="check [couchdb] in the configuration")  # noqa: TRY400
        return False
    except ForeignDatabaseError as error:
        log.error("cannot start", error=str(error))  # noqa: TRY400
        return False
    except CouchError as error:
        log.warning("waiting for CouchDB", kind=error.kind, error=str(error))
    return True


def _start_messages(
    config: Config, credentials: Credentials | None, state: StateDirectory, lookout: Lookout
) -> StartMessage:
    def start_message(request: StartRequest) -> ListenerStart:
        assignment = request.assignment
        return ListenerStart(
            copy=assignment.copy,
            ownership=assignment.ownership,
            coming=assignment.coming,
            instance=lookout.attach().node,
            couchdb=config.couchdb,
            credentials=credentials,
            databases=config.databases,
            deletion=config.deletion.policy,
            log=config.log,
            state_file=str(state.file_of(assignment.copy)),
            share=request.share,
            most_in_flight=config.provisioning.max_in_flight,
            begin_near=request.begin_near,
            recall_seconds=_recall_seconds(config.cluster),
        )

    return start_message


def _serve(config: Config, collector: InstanceCollector, health: Health) -> HTTPServer:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    host, port = split_address(config.http.listen)
    try:
        server = HTTPServer(Page(registry, healthy=health.healthy, ready=health.ready), host, port)
    except OSError as error:
        raise ConfigError([f"http.listen: cannot listen on {config.http.listen}: {error.strerror}"]) from error
    server.start()
    return server
