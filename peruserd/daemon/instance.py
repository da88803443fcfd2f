"""One running instance, from its configuration to its exit code."""

import faulthandler
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final, get_args

import msgspec
import structlog
from prometheus_client.registry import Collector

from peruserd import __version__, dumps, ending
from peruserd.core.agreement import configuration_digest
from peruserd.core.config import Config, CouchDBConfig
from peruserd.core.control import Answer, DeletionOrder, LookAt, Quarantine
from peruserd.core.lifecycle import EXIT_CONFIGURATION, RestartBudget, Timing
from peruserd.core.settling import Settling
from peruserd.core.views import View
from peruserd.couch.authenticator import Answers, Authenticator
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase, ForeignDatabaseError
from peruserd.couch.credentials import CredentialSource
from peruserd.couch.errors import CouchError
from peruserd.couch.refusals import RefusalFile
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.daemon.audit_metrics import AuditCollector
from peruserd.daemon.claim import Claim, InUseError
from peruserd.daemon.control import ControlSocket
from peruserd.daemon.deletion_metrics import DeletionCollector
from peruserd.daemon.deletions import DeletionOffice
from peruserd.daemon.health import Health
from peruserd.daemon.http import HTTPServer, Page, registry_of, serve
from peruserd.daemon.metrics import InstanceCollector
from peruserd.daemon.orders import Looks, Orders
from peruserd.daemon.own_database import own_database_test
from peruserd.daemon.quarantine import QuarantineDesk
from peruserd.daemon.start_messages import start_messages
from peruserd.daemon.state import StateDirectory
from peruserd.daemon.systemd import Notifier
from peruserd.daemon.templates import keep_templates, load_templates, tell_of
from peruserd.daemon.users_page import MOST_LOOKS, open_page
from peruserd.supervisor import forkserver
from peruserd.supervisor.attaching import NoShardsError
from peruserd.supervisor.directory_watch import DirectoryWatch
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.heart import Heart
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.presence import Presence
from peruserd.supervisor.return_watch import ReturnWatch
from peruserd.supervisor.second_writer import SecondWriter
from peruserd.supervisor.slashes import SlashWatch
from peruserd.supervisor.watcher import Lookout, Watcher

# More restarts than this within ten minutes are no single listener's bad luck.
_BUDGET: Final = RestartBudget(burst=60, period_seconds=600.0)

# A lease that cannot be written within this is late already.
_LONGEST_BEAT_SECONDS: Final = 5.0

# The last one of all has what is left of its time when the beat before it was interrupted.
_LONGEST_LAST_SECONDS: Final = (ending.LEASE_SECONDS - ending.LEASE_GRACE_SECONDS) / 2

log = structlog.get_logger(__name__)


def run(config: Config, source: CredentialSource, notifier: Notifier) -> int:
    """Run an instance until it is told to stop; return the exit code. Raises ConfigError."""
    faulthandler.enable()
    if (error := dumps.forbid()) is not None:
        log.warning("core dumps of this process cannot be forbidden", error=error)
    state = StateDirectory.configured(config)
    try:
        state.prepare()
        claim = Claim.take(state.path)
    except (InUseError, OSError) as error:
        return _cannot_start_yet(str(error))
    try:
        return Instance(config, source, notifier, state, claim).run()
    finally:
        claim.release()


def _cannot_start_yet(why: str) -> int:
    log.error("cannot start", error=why)
    return os.EX_TEMPFAIL


class Instance:
    """One instance, put together. `run` is its main thread, and the only place where something is started or ended."""

    def __init__(
        self, config: Config, source: CredentialSource, notifier: Notifier, state: StateDirectory, claim: Claim
    ) -> None:
        cluster, provisioning = config.cluster, config.provisioning
        templates = load_templates(config)
        tell_of(templates, config)
        self._config = config
        self._notifier = notifier
        self._state = state
        self._claim = claim
        self._presence = Presence(
            incarnation=claim.incarnation,
            replaces=claim.replaces,
            ttl_seconds=cluster.lease_ttl,
            version=__version__,
            digest=configuration_digest(config, templates),
        )
        self._authenticator = Authenticator(config.couchdb, source, RefusalFile(state.path), self._on_answered)
        self._tokens = self._authenticator.tokens
        self._session = Session(config.couchdb, self._tokens)
        # A copy that does not answer must not keep the watcher from the others for long; nor a setting that is hidden.
        self._database_session = Session(_hasty(config), self._tokens)
        self._database = ClusterDatabase(Client(self._database_session), cluster.database, mend=True)
        self._second_writer = SecondWriter(Client(self._database_session))
        self._slashes = SlashWatch(Client(self._session))
        self._lookout = Lookout(
            Client(self._session), config.couchdb, self._presence, self._database, self._second_writer, self._slashes
        )
        self._watcher = Watcher(
            self._lookout.look,
            interval_seconds=cluster.poll_interval,
            on_view=self._on_view,
            on_failure=self._on_failed_look,
        )
        self._fleet = Fleet(
            start_messages(config, templates, self._tokens, state, self._lookout),
            most_in_flight=provisioning.max_in_flight,
            new_per_minute=provisioning.max_new_per_minute,
            timing=Timing(),
            budget=_BUDGET,
            retired_files=state.retired,
            on_copy_lost=self._on_copy_lost,
            gatekeeper=self._authenticator,
        )
        self._supervisor = Supervisor(
            self._fleet,
            make_plan=self._lookout.plan,
            settling=Settling(cluster.quiet_period, cluster.lease_ttl, expected=claim.expected),
            look_soon=self._watcher.look_soon,
            remember=_remembering(claim),
            tell=notifier.status,
            on_hangup=self._authenticator.reread,
            on_end=ending.arm_last_resort,
        )
        self._health = Health(self._fleet, self._supervisor, self._database, self._trouble)
        self._heart = Heart(
            Client(Session(_hasty(config), self._tokens)),
            Client(Session(_hasty(config, _LONGEST_LAST_SECONDS), self._tokens)),
            self._presence,
            database=self._database,
            interval_seconds=cluster.lease_interval,
            node=self._lookout.shard_node,
            # Others take over from one that can read no copy.
            is_alive=lambda: self._health.goes_round() and self._slashes.trouble is None,
        )
        self._directory_watch = DirectoryWatch(
            Client(Session(config.couchdb, self._tokens)),
            node=self._lookout.shard_node,
            on_change={config.couchdb.auth_db: self._watcher.look_soon, cluster.database: self._look_at_copies},
            prefix=config.databases.prefix,
            looks=self._supervisor,
            directory=state.path,
            on_break=self._presence.note_break,
            long_poll_seconds=config.couchdb.long_poll_timeout,
        )
        self._return_watch = ReturnWatch(
            Client(self._session),
            node=self._lookout.shard_node,
            place=lambda: self._directory_watch.place,
            prefix=config.databases.prefix,
            looks=self._supervisor,
            directory=state.path,
        )
        users = Client(Session(_hasty(config), self._tokens, connections=MOST_LOOKS))
        self._users = open_page(users, self._lookout, config, self._fleet.kept)
        self._deletions = _see_to_deletions(config, self._tokens, self._lookout, self._supervisor)
        self._keeper = keep_templates(config, templates, self._tokens, self._lookout, self._supervisor)
        desk = QuarantineDesk(self._fleet, self._fleet.questions)
        self._control = ControlSocket(state.path, _orders(self._deletions, self._supervisor, desk).carry_out)

    def run(self) -> int:
        """Run until told to stop; return the exit code. Raises ConfigError.

        Parts are ended in the reverse order of their starts, and only those that were started. Before all of them,
        whatever waits for an answer is interrupted.
        """
        # Before there is anything to listen to, so that its imports are done by then.
        forkserver.begin(self._state.path)
        with ExitStack() as stack:
            self._authenticator.start()
            stack.callback(self._authenticator.stop)
            if not _attach_first(self._lookout):
                return EXIT_CONFIGURATION
            health = self._health
            page = Page(registry_of(self._collectors()), healthy=health.healthy, ready=health.ready, users=self._users)
            server = serve(page, self._config.http.listen)
            stack.callback(server.stop)
            self._presence.set_address(f"{server.host}:{server.port}")
            try:
                self._control.start()
            except OSError as error:
                return _cannot_start_yet(f"no control socket can be made in {self._state.path}: {error}")
            stack.callback(self._control.stop)
            outcome = self._supervisor.run(lambda: self._begin(stack, server))
        log.info("stopped", code=int(outcome))
        return int(outcome)

    def _begin(self, stack: ExitStack, server: HTTPServer) -> None:
        log.info(
            "started",
            version=__version__,
            pid=os.getpid(),
            incarnation=self._claim.incarnation,
            state=str(self._state.path),
            http=f"{server.host}:{server.port}",
        )
        self._watcher.start()
        # The heart is ended first: others wait for its last lease, and for no other part.
        for each in (self._keeper, self._directory_watch, self._deletions, self._heart):
            each.start()
            stack.callback(each.stop)
        # A part that waits for an answer would hold up the end of the others.
        stack.callback(self._interrupt)
        self._notifier.ready()
        stack.callback(self._notifier.stopping)

    def _interrupt(self) -> None:
        self._users.stop()
        self._watcher.stop()
        self._tokens.close()
        self._session.interrupt()
        self._database_session.interrupt()

    def _on_answered(self, doubts: Answers | None) -> None:
        self._supervisor.on_answered(doubts)

    def _on_view(self, view: View) -> None:
        self._heart.notice(view)
        self._supervisor.on_view(view)
        self._return_watch.on_view(view)
        if self._database.state.refused and not self._database.was_usable:
            self._supervisor.give_up(self._database.state.why)

    def _on_copy_lost(self) -> None:
        self._watcher.look_soon()

    def _trouble(self) -> str | None:
        if (known := self._authenticator.trouble or self._slashes.trouble) is not None:
            return known
        unseen = None if self._supervisor.has_looked else self._watcher.trouble
        return None if unseen is None else f"waiting for CouchDB: {unseen}"

    def _on_failed_look(self) -> None:
        self._supervisor.lose_sight()

    def _look_at_copies(self) -> None:
        self._database.suspect()
        self._watcher.look_soon()

    def _collectors(self) -> Iterable[Collector]:
        yield InstanceCollector(
            self._fleet,
            self._supervisor,
            self._heart,
            self._health,
            self._database,
            self._second_writer,
            self._authenticator,
        )
        yield DeletionCollector(self._fleet, self._deletions.pause)
        yield AuditCollector(self._fleet)


def _remembering(claim: Claim) -> Callable[[tuple[str, ...]], None]:
    def remember(instances: tuple[str, ...]) -> None:
        try:
            claim.remember(instances)
        except OSError as error:
            log.warning("the next start will expect the instances of an earlier time", error=str(error))

    return remember


def _orders(deletions: DeletionOffice, supervisor: Supervisor, desk: QuarantineDesk) -> Orders:
    by_type: dict[type, Callable[[Any, int], Iterator[Answer]]] = {
        LookAt: Looks(supervisor).carry_out,
        Quarantine: desk.carry_out,
    }
    by_type.update(dict.fromkeys(get_args(DeletionOrder), deletions.operator.carry_out))
    return Orders(by_type)


def _see_to_deletions(config: Config, tokens: Tokens, lookout: Lookout, supervisor: Supervisor) -> DeletionOffice:
    session = Session(config.couchdb, tokens, connections=2)
    return DeletionOffice(
        config,
        session,
        is_usable=own_database_test(config, session, lookout, supervisor),
        on_news=supervisor.on_journal,
        instance=lambda: lookout.attach().node,
    )


def _hasty(config: Config, most_seconds: float = _LONGEST_BEAT_SECONDS) -> CouchDBConfig:
    """Return how to reach the node for what is worth nothing when it is late."""
    couchdb = config.couchdb
    return msgspec.structs.replace(
        couchdb,
        connect_timeout=min(couchdb.connect_timeout, most_seconds),
        read_timeout=min(couchdb.read_timeout, most_seconds),
    )


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
