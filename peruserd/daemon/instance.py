"""One running instance, from its configuration to its exit code."""

import faulthandler
import os
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.registry import Collector

from peruserd import __version__, dumps
from peruserd.core.agreement import configuration_digest
from peruserd.core.config import ClusterConfig, Config, CouchDBConfig
from peruserd.core.decoding import ConfigError, split_address
from peruserd.core.lifecycle import EXIT_CONFIGURATION, RestartBudget, Timing
from peruserd.core.messages import ListenerStart
from peruserd.core.settling import Settling
from peruserd.core.views import View
from peruserd.couch.authenticator import Answers, Authenticator
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.errors import CouchError
from peruserd.couch.refusals import RefusalFile
from peruserd.couch.session import Session
from peruserd.couch.single_journal import prepare_journal
from peruserd.couch.tokens import Tokens
from peruserd.daemon.claim import Claim, InUseError
from peruserd.daemon.deletion_metrics import DeletionCollector
from peruserd.daemon.deletions import DeletionOffice
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


def run(config: Config, source: CredentialSource, notifier: Notifier) -> int:
    """Run the instance until it is told to stop; return the exit code."""
    faulthandler.enable()
    if (error := dumps.forbid()) is not None:
        log.warning("core dumps of this process cannot be forbidden", error=error)
    state = StateDirectory.configured(config)
    state.prepare()
    try:
        claim = Claim.take(state.path)
    except InUseError as error:
        log.error("cannot start", error=str(error))  # noqa: TRY400 - the sentence says it all
        return os.EX_TEMPFAIL
    try:
        return _run(config, source, notifier, state, claim)
    finally:
        claim.release()


def _run(config: Config, source: CredentialSource, notifier: Notifier, state: StateDirectory, claim: Claim) -> int:
    # Before there is anything to listen to, so that its imports are done by then.
    forkserver.begin()
    presence = Presence(
        incarnation=claim.incarnation,
        replaces=claim.replaces,
        ttl_seconds=config.cluster.lease_ttl,
        version=__version__,
        digest=configuration_digest(config),
    )

    def on_answered(doubts: Answers | None) -> None:
        supervisor.on_answered(doubts)

    authenticator = Authenticator(config.couchdb, source, RefusalFile(state.path), on_answered)
    session = Session(config.couchdb, authenticator.tokens)
    # A copy that does not answer must not keep the watcher from the others for long; nor a setting that is hidden.
    database_session = Session(_hasty(config), authenticator.tokens)
    database = ClusterDatabase(Client(database_session), config.cluster.database, mend=True)
    second_writer = SecondWriter(Client(database_session))
    lookout = Lookout(Client(session), config.couchdb, presence, database, second_writer)

    def on_view(view: View) -> None:
        heart.notice(view)
        supervisor.on_view(view)
        if database.state.refused and not database.was_usable:
            supervisor.give_up(database.state.why)

    look = _look(lookout, lambda: supervisor.lose_sight())  # noqa: PLW0108 - there is no supervisor yet
    watcher = Watcher(look, interval_seconds=config.cluster.poll_interval, on_view=on_view)
    fleet = Fleet(
        _start_messages(config, authenticator.tokens, state, lookout),
        most_in_flight=config.provisioning.max_in_flight,
        new_per_minute=config.provisioning.max_new_per_minute,
        timing=Timing(),
        budget=_BUDGET,
        retired_files=state.retired,
        on_copy_lost=watcher.look_soon,
        gatekeeper=authenticator,
    )
    supervisor = Supervisor(
        fleet,
        make_plan=lookout.plan,
        settling=Settling(config.cluster.quiet_period, config.cluster.lease_ttl, expected=claim.expected),
        remember=_remembering(claim),
        tell=notifier.status,
        on_hangup=authenticator.reread,
    )
    if not _begin(authenticator, lookout):
        return EXIT_CONFIGURATION
    health = Health(fleet, supervisor, database, lambda: authenticator.trouble)
    heart_session = Session(_hasty(config), authenticator.tokens)
    heart = Heart(
        Client(heart_session),
        presence,
        database=database,
        interval_seconds=config.cluster.lease_interval,
        node=lookout.shard_node,
        is_alive=health.goes_round,
    )
    map_watch = _watch_maps(config, authenticator.tokens, lookout.shard_node, database, watcher)
    deletions = _see_to_deletions(config, authenticator.tokens, state, lookout, supervisor)
    collector = InstanceCollector(fleet, supervisor, heart, health, database, second_writer, authenticator)
    server = _serve(config, (collector, DeletionCollector(fleet, deletions.pause)), health)
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
        for each in (watcher, map_watch, heart, deletions):
            each.start()
        notifier.ready()

    try:
        deletions.listen()
        outcome = supervisor.run(begin)
    finally:
        notifier.stopping()
        watcher.stop()
        authenticator.tokens.close()
        session.interrupt()
        deletions.stop()
        database_session.interrupt()
        map_watch.stop()
        heart.stop()
        authenticator.stop()
        server.stop()
    log.info("stopped", code=int(outcome))
    return int(outcome)


def _look(lookout: Lookout, lose_sight: Callable[[], None]) -> Callable[[], View]:
    """Return the function that looks at the cluster, and says so where that fails."""

    def look() -> View:
        try:
            return lookout.look()
        except CouchError:
            lose_sight()
            raise

    return look


def _remembering(claim: Claim) -> Callable[[tuple[str, ...]], None]:
    def remember(instances: tuple[str, ...]) -> None:
        try:
            claim.remember(instances)
        except OSError as error:
            log.warning("the next start will expect the instances of an earlier time", error=str(error))

    return remember


def _watch_maps(
    config: Config,
    tokens: Tokens,
    node: Callable[[], str | None],
    database: ClusterDatabase,
    watcher: Watcher,
) -> MapWatch:
    def look_at_copies() -> None:
        database.suspect()
        watcher.look_soon()

    on_change = {config.couchdb.auth_db: watcher.look_soon, database.name: look_at_copies}
    return MapWatch(Client(Session(config.couchdb, tokens)), node=node, on_change=on_change)


def _see_to_deletions(
    config: Config, tokens: Tokens, state: StateDirectory, lookout: Lookout, supervisor: Supervisor
) -> DeletionOffice:
    session = Session(config.couchdb, tokens, connections=2)

    def is_usable() -> bool:
        if lookout.shard_node() is None:
            return prepare_journal(Client(session), config.cluster.database)
        # It is in the database of the leases: where these can be read, it is ours and closed to others.
        return supervisor.leases_readable

    return DeletionOffice(
        config,
        session,
        state.path,
        is_usable=is_usable,
        on_news=supervisor.on_journal,
        instance=lambda: lookout.attach().node,
    )


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


def _begin(authenticator: Authenticator, lookout: Lookout) -> bool:
    """Let requests be sent, and attach; say whether the configuration can be used."""
    authenticator.start()
    if _attach_first(lookout):
        return True
    authenticator.stop()
    return False


def _attach_first(lookout: Lookout) -> bool:
    """Try once to attach, so that a mistake in the configuration ends the start.

    A node that is away does not, nor does one that refuses the account: what is wrong with it can change on the server,
    or in the password's file, which is read again.
    """
    try:
        lookout.prepare()
    except NoShardsError as error:
        log.error("cannot start", error=str(error), advice="check [couchdb] in the configuration")  # noqa: TRY400
        return False
    except ForeignDatabaseError as error:
        log.error("cannot start", error=str(error))  # noqa: TRY400
        return False
    except CouchError as error:
        log.warning("waiting for CouchDB", kind=error.kind, error=str(error))
    return True


def _start_messages(config: Config, tokens: Tokens, state: StateDirectory, lookout: Lookout) -> StartMessage:
    def start_message(request: StartRequest) -> ListenerStart:
        assignment = request.assignment
        return ListenerStart(
            copy=assignment.copy,
            ownership=assignment.ownership,
            coming=assignment.coming,
            instance=lookout.attach().node,
            couchdb=config.couchdb,
            token=tokens.current,
            databases=config.databases,
            deletion=config.deletion,
            cluster_database=config.cluster.database,
            log=config.log,
            state_file=str(state.file_of(assignment.copy)),
            share=request.share,
            new_per_minute=request.new_per_minute,
            nodes=request.nodes,
            most_in_flight=config.provisioning.max_in_flight,
            begin_near=request.begin_near,
            recall_seconds=_recall_seconds(config.cluster),
        )

    return start_message


def _serve(config: Config, collectors: Iterable[Collector], health: Health) -> HTTPServer:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    for collector in collectors:
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
