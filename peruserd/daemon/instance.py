"""One running instance, from its configuration to its exit code."""

import os
import time
from contextlib import ExitStack
from typing import Final

import structlog

from peruserd import __version__, dumps, ending, logs, threads, tracebacks
from peruserd.core.cluster.agreement import configuration_digest
from peruserd.core.cluster.stable_view import StableView
from peruserd.core.cluster.views import View
from peruserd.core.configuration.config import Config
from peruserd.core.processes.lifecycle import Timing
from peruserd.core.processes.restarts import RestartBudget
from peruserd.couch.authenticator import Answers, Authenticator
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.refusals import RefusalFile
from peruserd.couch.session import Session
from peruserd.daemon.all_metrics import metrics_of
from peruserd.daemon.building import attach_first, deletion_service, orders, remembering
from peruserd.daemon.control import ControlSocket
from peruserd.daemon.draining import Draining
from peruserd.daemon.health import Health, Limits
from peruserd.daemon.heartbeat import Heartbeat
from peruserd.daemon.http import Page, registry_of, serve
from peruserd.daemon.http_server import HTTPServer
from peruserd.daemon.reload import InForce, Read, Reloader
from peruserd.daemon.start import Start
from peruserd.daemon.start_messages import start_messages
from peruserd.daemon.state import StateDirectory
from peruserd.daemon.state_lock import StateLock
from peruserd.daemon.status import InstanceStatus
from peruserd.daemon.status_line import StatusLine
from peruserd.daemon.status_page import StatusPages
from peruserd.daemon.systemd import Notifier
from peruserd.daemon.taking_over import Parts
from peruserd.daemon.templates import keep_templates, load_templates, log_templates
from peruserd.daemon.users_page import MAX_LOOKS, open_page
from peruserd.supervisor import descriptors, forkserver
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.cluster_watch import ClusterWatch
from peruserd.supervisor.directory_watch import DirectoryWatch
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.loop import MAX_WAIT_SECONDS, Supervisor
from peruserd.supervisor.loop_watch import LoopWatch
from peruserd.supervisor.membership import Member
from peruserd.supervisor.peruser_watch import PeruserWatch
from peruserd.supervisor.return_watch import ReturnWatch
from peruserd.supervisor.slashes import SlashWatch
from peruserd.supervisor.state_writes import StateWrites

# A lease that takes longer than this to write is late already. Other requests must not delay their threads for longer.
_SHORT_SECONDS: Final = 5.0

# The last lease has the time that is left after the renewal before it was interrupted.
_MAX_LAST_SECONDS: Final = (ending.LEASE_SECONDS - ending.LEASE_GRACE_SECONDS) / 2

# The first requests look for the node, and a server that takes connections and never answers takes them some minutes.
_FIRST_REQUESTS_SECONDS: Final = 600.0

log = structlog.get_logger(__name__)


def run(config: Config, source: CredentialSource, notifier: Notifier, read: Read) -> int:
    """Run an instance until it is told to stop; return the exit code.

    `read` reads the configuration again, for a reload. Raises ConfigError if the configuration must change first, and
    TemporaryError if the start may succeed later.
    """
    tracebacks.enable()
    threads.log_uncaught()
    if (error := dumps.forbid()) is not None:
        log.warning("core dumps of this process cannot be forbidden", error=error)
    descriptors.raise_limit()
    templates = load_templates(config)
    state = StateDirectory.configured(config)
    state.prepare()
    with Start() as start, StateLock.take(state.path) as state_lock:
        return Instance(InForce(config, source, templates), notifier, state, state_lock, start, read).run()


class Instance:
    """One instance, with all its parts. Only `run`, in the main thread, starts and ends parts."""

    def __init__(
        self,
        begin: InForce,
        notifier: Notifier,
        state: StateDirectory,
        state_lock: StateLock,
        start: Start,
        read: Read,
    ) -> None:
        config, templates = begin.config, begin.templates
        cluster, provisioning = config.cluster, config.provisioning
        log_templates(templates, config)
        self._start = start
        self._config = config
        self._notifier = notifier
        self._state = state
        self._state_lock = state_lock
        self._writes = StateWrites(state.path)
        self._member = Member(
            incarnation=state_lock.incarnation,
            replaces=state_lock.replaces,
            ttl_seconds=cluster.lease_ttl,
            version=__version__,
            digest=configuration_digest(config, templates),
        )
        self._authenticator = Authenticator(config.couchdb, begin.source, RefusalFile(state.path), self._on_answered)
        self._tokens = self._authenticator.tokens
        short = config.couchdb.with_timeouts_up_to(_SHORT_SECONDS)
        self._session = Session(config.couchdb, self._tokens)
        self._database_session = Session(short, self._tokens)
        self._database = ClusterDatabase(Client(self._database_session), cluster.database, mend=True)
        self._peruser_watch = PeruserWatch(Client(self._database_session))
        self._slashes = SlashWatch(Client(self._session))
        self._cluster_reader = ClusterReader(
            Client(self._session), config.couchdb, self._member, self._database, self._peruser_watch, self._slashes
        )
        self._cluster_watch = ClusterWatch(
            self._cluster_reader.read,
            interval_seconds=cluster.poll_interval,
            on_view=self._on_view,
            on_failure=self._on_failed_reading,
        )
        self._fleet = Fleet(
            start_messages(config, templates, self._tokens, state, self._cluster_reader),
            max_in_flight=provisioning.max_in_flight,
            new_per_minute=provisioning.max_new_per_minute,
            timing=Timing(),
            budget=RestartBudget(),
            state_file=state.file_of,
            on_copy_lost=self._on_copy_lost,
            gatekeeper=self._authenticator,
        )
        self._supervisor = Supervisor(
            self._fleet,
            make_plan=self._cluster_reader.plan,
            stable_view=StableView(cluster.quiet_period, cluster.lease_ttl, expected=state_lock.expected),
            read_soon=self._cluster_watch.read_soon,
            remember=remembering(state_lock, self._writes.put),
            set_status=notifier.status,
            max_wait_seconds=_max_wait(notifier.watchdog_seconds),
            on_hangup=self._on_hangup,
            on_end=ending.arm_last_resort,
            on_round=self._on_round,
        )
        limits = Limits(config.http.ready_lag, config.couchdb.long_poll_timeout)
        self._health = Health(self._fleet, self._supervisor, self._database, self._trouble, limits=limits)
        status_line = StatusLine(self._health, self._supervisor, self._peruser_watch, lambda: self._reloader.record)
        self._heartbeat = Heartbeat(
            self._health,
            notifier,
            self._supervisor.end_broken,
            status_line,
            is_stopping=lambda: self._supervisor.stopping,
        )
        self._loop_watch = LoopWatch(lambda: self._supervisor.last_round)
        self._draining = Draining(
            self._member,
            self._supervisor,
            self._fleet,
            lambda: self._lease_renewer,
            self._cluster_reader,
            self._cluster_watch.read_soon,
            lambda: self._reloader.in_force.config.cluster.poll_interval,
        )
        self._lease_renewer = LeaseRenewer(
            Client(Session(short, self._tokens)),
            Client(Session(short.with_timeouts_up_to(_MAX_LAST_SECONDS), self._tokens)),
            self._member,
            database=self._database,
            interval_seconds=cluster.lease_interval,
            node=self._cluster_reader.shard_node,
            # If the instance can read no copy, its lease must lapse, so that others take over.
            is_alive=lambda: self._health.goes_round() and self._slashes.trouble is None,
            is_drained=self._draining.is_drained,
        )
        self._directory_watch = DirectoryWatch(
            Client(Session(config.couchdb, self._tokens)),
            node=self._cluster_reader.shard_node,
            on_change={config.couchdb.auth_db: self._cluster_watch.read_soon, cluster.database: self._look_at_copies},
            prefix=config.databases.prefix,
            looks=self._supervisor,
            directory=state.path,
            put=self._writes.put,
            on_break=self._member.note_break,
            long_poll_seconds=config.couchdb.long_poll_timeout,
        )
        self._return_watch = ReturnWatch(
            Client(self._session),
            node=self._cluster_reader.shard_node,
            place=lambda: self._directory_watch.place,
            prefix=config.databases.prefix,
            looks=self._supervisor,
            directory=state.path,
            put=self._writes.put,
        )
        users = Client(Session(short, self._tokens, connections=MAX_LOOKS))
        self._users = open_page(users, self._cluster_reader, config, self._fleet.kept)
        self._deletions = deletion_service(config, self._tokens, self._cluster_reader, self._supervisor)
        self._status = InstanceStatus(
            auth_db=config.couchdb.auth_db,
            fleet=self._fleet,
            supervisor=self._supervisor,
            member=self._member,
            lease_renewer=self._lease_renewer,
            cluster_reader=self._cluster_reader,
            health=self._health,
            authenticator=self._authenticator,
            peruser_watch=self._peruser_watch,
            pause=self._deletions.pause,
            refused=lambda: self._reloader.record.refused,
        )
        self._keeper = keep_templates(config, templates, self._tokens, self._cluster_reader, self._supervisor)
        self._parts = Parts(
            authenticator=self._authenticator,
            cluster_reader=self._cluster_reader,
            deletions=self._deletions,
            health=self._health,
            keeper=self._keeper,
            lease_renewer=self._lease_renewer,
            member=self._member,
            state=state,
            supervisor=self._supervisor,
            tokens=self._tokens,
            users=self._users,
            cluster_watch=self._cluster_watch,
        )
        self._reloader = Reloader(begin, read, self._parts.take_over, notifier)
        carried_out = orders(
            self._deletions, self._supervisor, self._fleet, self._reloader, self._status, self._draining
        )
        self._control = ControlSocket(state.path, carried_out.carry_out)

    def run(self) -> int:
        """Run until told to stop; return the exit code. Raises ConfigError.

        After the listeners, parts end in the reverse order of their starts, and only those that were started. Before
        that, `_interrupt` ends the requests of the cluster watch and all waits for a token. The other parts interrupt
        their own requests.
        """
        # The fork server starts first, so that its imports are done before the first listener starts.
        forkserver.begin(self._state.path)
        with ExitStack() as stack:
            # Everything of this machine comes before the first request, because a start that fails here is repeated.
            health = self._health
            metrics = metrics_of(
                self._parts, self._fleet, self._database, self._peruser_watch, self._reloader, self._writes
            )
            page = Page(
                registry_of(metrics),
                healthy=health.healthy,
                ready=health.ready,
                users=self._users,
                status=StatusPages(self._status.latest, self._status.as_json),
            )
            server = serve(page, self._config.http)
            stack.callback(server.stop)
            self._member.set_address(f"{server.host}:{server.port}")
            self._control.start()
            stack.callback(self._control.stop)
            self._authenticator.start()
            stack.callback(self._authenticator.stop)
            # Each request of it has limits, and their sum is longer than a start may usually take.
            self._notifier.extend_timeout(_FIRST_REQUESTS_SECONDS)
            self._notifier.status(f"waiting for the first answer of {self._config.couchdb.url}")
            attach_first(self._cluster_reader)
            outcome = self._supervisor.run(lambda: self._begin(stack, server))
        # The last line is what `systemctl status` shows of the log.
        logs.say_rest()
        if (why := self._supervisor.why_ended) is None:
            log.info("stopped", code=int(outcome))
        else:
            log.error("stopped", code=int(outcome), why=why)
        return int(outcome)

    def _begin(self, stack: ExitStack, server: HTTPServer) -> None:
        log.info(
            "started",
            version=__version__,
            pid=os.getpid(),
            incarnation=self._state_lock.incarnation,
            state=str(self._state.path),
            http=f"{server.host}:{server.port}",
        )
        for early in (self._loop_watch, self._writes):
            early.start()
            stack.callback(early.stop)
        self._cluster_watch.start()
        # The lease renewer ends first: other instances wait for its last lease, and for no other part.
        for each in (self._keeper, self._directory_watch, self._deletions, self._lease_renewer, self._reloader):
            each.start()
            stack.callback(each.stop)
        # A part that waits for an answer would delay the end of the others.
        stack.callback(self._interrupt)
        self._start.is_over = True
        self._heartbeat.beat(time.monotonic())

    def _interrupt(self) -> None:
        self._users.stop()
        self._cluster_watch.stop()
        self._tokens.close()
        self._session.interrupt()
        self._database_session.interrupt()

    def _on_answered(self, checks: Answers | None) -> None:
        self._supervisor.on_answered(checks)

    def _on_round(self, now: float) -> None:
        self._heartbeat.beat(now)
        self._draining.on_round()
        self._status.sample(now)

    def _on_hangup(self) -> None:
        self._reloader.request()

    def _on_view(self, view: View) -> None:
        self._lease_renewer.notice(view)
        self._supervisor.on_view(view)
        self._return_watch.on_view(view)
        if self._database.state.refused and not self._database.was_usable:
            self._supervisor.give_up(self._database.state.why)

    def _on_copy_lost(self) -> None:
        self._cluster_watch.read_soon()

    def _trouble(self) -> str | None:
        if (known := self._authenticator.trouble or self._slashes.trouble) is not None:
            return known
        unseen = self._cluster_watch.trouble
        return None if unseen is None else f"waiting for CouchDB: {unseen}"

    def _on_failed_reading(self) -> None:
        self._supervisor.on_failed_reading()

    def _look_at_copies(self) -> None:
        self._database.check_soon()
        self._cluster_watch.read_soon()


def _max_wait(watchdog_seconds: float | None) -> float:
    """Return how long the supervisor's loop may wait, so that it is heard of often enough for systemd's watchdog."""
    return MAX_WAIT_SECONDS if watchdog_seconds is None else min(MAX_WAIT_SECONDS, watchdog_seconds / 3)
