"""Hands a new configuration to the parts of a running instance."""

from dataclasses import dataclass

from peruserd import logs
from peruserd.core.cluster.agreement import configuration_digest
from peruserd.core.configuration.changes import Changes
from peruserd.core.configuration.config import Config
from peruserd.core.processes.messages import Reconfigure
from peruserd.couch.authenticator import Authenticator
from peruserd.couch.tokens import Tokens
from peruserd.daemon.deletions import DeletionService
from peruserd.daemon.health import Health
from peruserd.daemon.reload import InForce
from peruserd.daemon.start_messages import recall_seconds, start_messages
from peruserd.daemon.state import StateDirectory
from peruserd.daemon.templates import TemplateKeeper, log_templates
from peruserd.daemon.users_page import Access, UsersPage
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.cluster_watch import ClusterWatch
from peruserd.supervisor.inbox import NewSettings
from peruserd.supervisor.lease_renewer import LeaseRenewer
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.membership import Member
from peruserd.supervisor.start_request import FleetSettings


@dataclass(frozen=True)
class Parts:
    """The parts of an instance that take over a new configuration while they run."""

    authenticator: Authenticator
    cluster_reader: ClusterReader
    deletions: DeletionService
    health: Health
    keeper: TemplateKeeper
    lease_renewer: LeaseRenewer
    member: Member
    state: StateDirectory
    supervisor: Supervisor
    tokens: Tokens
    users: UsersPage
    cluster_watch: ClusterWatch

    def take_over(self, now: InForce, changes: Changes) -> None:
        """Hand it to each part. Listeners hear of it from the supervisor's loop, in their own time."""
        config, cluster = now.config, now.config.cluster
        logs.reconfigure(config.log)
        self.authenticator.reread(None if changes.keeps_account else now.source)
        self.cluster_watch.set_interval(cluster.poll_interval)
        # The next lease has the new digest, so it is written after that is known.
        self.member.take_over(ttl_seconds=cluster.lease_ttl, digest=configuration_digest(config, now.templates))
        self.lease_renewer.set_interval(cluster.lease_interval)
        self.deletions.take_over(config)
        self.health.allow_lag(config.http.ready_lag)
        self.users.let_in(Access.configured(config.http))
        if changes.listeners:
            log_templates(now.templates, config)
            self.keeper.keep(now.templates)
        self.supervisor.take_over(NewSettings(cluster.quiet_period, cluster.lease_ttl, self._fleet(now, changes)))

    def _fleet(self, now: InForce, changes: Changes) -> FleetSettings:
        config, provisioning = now.config, now.config.provisioning
        return FleetSettings(
            start_message=start_messages(config, now.templates, self.tokens, self.state, self.cluster_reader),
            message=_for_listeners(config),
            max_in_flight=provisioning.max_in_flight,
            new_per_minute=provisioning.max_new_per_minute,
            renews=bool(changes.listeners),
        )


def _for_listeners(config: Config) -> Reconfigure:
    return Reconfigure(
        deletion=config.deletion,
        audit=config.audit,
        log=config.log,
        max_in_flight=config.provisioning.max_in_flight,
        recall_seconds=recall_seconds(config.cluster),
    )
