"""Parts of an instance whose construction takes more than a call."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import structlog

from peruserd.core.configuration.config import Config
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.processes.control import (
    Answer,
    AskStatus,
    DeletionOrder,
    Drain,
    LookAt,
    Quarantine,
    Reload,
    RestartListener,
)
from peruserd.couch.cluster_database import ForeignDatabaseError
from peruserd.couch.errors import CouchError
from peruserd.couch.session import Session
from peruserd.couch.tokens import Tokens
from peruserd.daemon.deletions import DeletionService
from peruserd.daemon.draining import Draining
from peruserd.daemon.listeners import ListenerOrders, StatusOrders
from peruserd.daemon.orders import OrderedLooks, Orders, Reloads
from peruserd.daemon.own_database import own_database_test
from peruserd.daemon.quarantine import QuarantineOrders
from peruserd.daemon.reload import Reloader
from peruserd.daemon.state_lock import StateLock
from peruserd.daemon.status import InstanceStatus
from peruserd.supervisor.attaching import NoShardsError
from peruserd.supervisor.cluster_reader import ClusterReader
from peruserd.supervisor.fleet import Fleet
from peruserd.supervisor.loop import Supervisor
from peruserd.supervisor.state_writes import Put

log = structlog.get_logger(__name__)


def remembering(state_lock: StateLock, put: Put) -> Callable[[tuple[str, ...]], None]:
    """Return what has the instances in force recorded. A failure is only logged, and the next start awaits more."""

    def write(instances: tuple[str, ...]) -> None:
        try:
            state_lock.remember(instances)
        except OSError as error:
            log.warning("the next start will expect the instances of an earlier time", error=str(error))

    return lambda instances: put("instances", partial(write, instances))


def orders(
    deletions: DeletionService,
    supervisor: Supervisor,
    fleet: Fleet,
    reloader: Reloader,
    status: InstanceStatus,
    draining: Draining,
) -> Orders:
    """Return who carries out each order of the control socket."""
    by_type: dict[type, Callable[[Any, int], Iterator[Answer]]] = {
        LookAt: OrderedLooks(supervisor).carry_out,
        Quarantine: QuarantineOrders(fleet, fleet.questions).carry_out,
        Reload: Reloads(reloader).carry_out,
        AskStatus: StatusOrders(status.as_json).carry_out,
        RestartListener: ListenerOrders(fleet, supervisor.restart).carry_out,
        Drain: draining.carry_out,
    }
    by_type.update(dict.fromkeys(get_args(DeletionOrder), deletions.operator.carry_out))
    return Orders(by_type)


def deletion_service(
    config: Config, tokens: Tokens, cluster_reader: ClusterReader, supervisor: Supervisor
) -> DeletionService:
    """Return the service of the journal of deletions, with connections of its own."""
    session = Session(config.couchdb, tokens, connections=2)
    return DeletionService(
        config,
        session,
        is_usable=own_database_test(config, session, cluster_reader, supervisor),
        on_news=supervisor.on_journal,
        instance=lambda: cluster_reader.attach().node,
    )


def attach_first(cluster_reader: ClusterReader) -> None:
    """Try once to attach, so that a mistake in the configuration ends the start; raises ConfigError.

    A node that is away does not end the start. A node that refuses the account does not either: the account can change
    on the server, and the password's file is read again.
    """
    try:
        cluster_reader.prepare()
    except NoShardsError as error:
        raise ConfigError([f"couchdb.feed: {error}"]) from error
    except ForeignDatabaseError as error:
        raise ConfigError([f"cluster.database: {error}"]) from error
    except CouchError as error:
        log.warning("waiting for CouchDB", kind=error.kind, error=str(error))
