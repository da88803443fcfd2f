"""The start messages of listeners, made from the configuration and from the fleet's request."""

from peruserd.core.configuration.config import ClusterConfig, Config
from peruserd.core.processes.messages import ListenerStart
from peruserd.core.users.templates import Templates
from peruserd.couch.tokens import Tokens
from peruserd.daemon.state import StateDirectory
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.start_request import StartMessage, StartRequest


def start_messages(
    config: Config, templates: Templates, tokens: Tokens, state: StateDirectory, cluster_reader: ClusterReader
) -> StartMessage:
    """Return the function that makes the start message of a listener."""

    def start_message(request: StartRequest) -> ListenerStart:
        assignment, conditions = request.assignment, request.conditions
        return ListenerStart(
            copy=assignment.copy,
            ownership=assignment.ownership,
            upcoming=assignment.upcoming,
            instance=cluster_reader.attach().node,
            couchdb=config.couchdb,
            token=tokens.current,
            databases=config.databases,
            deletion=config.deletion,
            audit=config.audit,
            cluster_database=config.cluster.database,
            log=config.log,
            state_file=str(state.file_of(assignment.copy)),
            share=conditions.share,
            new_per_minute=conditions.new_per_minute,
            nodes=conditions.nodes,
            cut_off=conditions.cut_off,
            max_in_flight=config.provisioning.max_in_flight,
            resume_near=request.resume_near,
            recall_seconds=recall_seconds(config.cluster),
            access=templates.access(config.security.grant),
            templates=templates,
        )

    return start_message


def recall_seconds(cluster: ClusterConfig) -> float:
    """Return how long two instances can act on the same document before one notices the other."""
    return cluster.lease_ttl + cluster.quiet_period + 2 * cluster.poll_interval
