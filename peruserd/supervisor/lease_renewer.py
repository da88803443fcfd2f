"""The lease renewer: a thread that writes this instance's lease again and again while the supervisor's loop runs.

It has its own session, so a slow answer to the cluster watch delays no renewal. A second session is for the last lease,
so a slow renewal does not delay that one. It decides nothing.
"""

import random
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from peruserd import ending
from peruserd.core.cluster.lease_documents import lease_id
from peruserd.core.cluster.leases import Lease, Role
from peruserd.core.cluster.views import View
from peruserd.couch.client import Client
from peruserd.couch.cluster_database import ClusterDatabase
from peruserd.couch.errors import (
    CouchError,
    InterruptedRequestError,
    NotFoundError,
    RefusedError,
)
from peruserd.repeated_task import RepeatedTask
from peruserd.supervisor.membership import Member

# Two instances beside one node write the same document. Jitter lets each of them see the other's lease.
_JITTER: Final = 0.1

# Others believe a new lease once they have seen it grow, so the first renewals come quickly.
_FIRST_RENEWALS: Final = 5
_FIRST_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class LeaseRenewer:
    """Renews the lease every `interval_seconds`, beside the node that `node` returns.

    `node` raises CouchError while the node is unknown, and returns None on a server where no leases are kept.
    `is_alive` says whether the supervisor works: a daemon that hangs must lose its lease. `is_drained` says whether the
    instance was told to give up its documents, and no process of it acts on any more.
    """

    def __init__(
        self,
        client: Client,
        last_client: Client,
        member: Member,
        *,
        database: ClusterDatabase,
        interval_seconds: float,
        node: Callable[[], str | None],
        is_alive: Callable[[], bool],
        is_drained: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._last_client = last_client
        self._member = member
        self._database = database
        self._interval = interval_seconds
        self._node = node
        self._is_alive = is_alive
        self._is_drained = is_drained
        self._task = RepeatedTask("renewer", self._turn, at_end=self._release)
        self._renewals = 0
        self._renewed_at: float | None = None
        self._written: Lease | None = None
        self._failed_kind: str | None = None
        self.failures = 0
        self.maintenance = False

    def start(self) -> None:
        """Begin to renew the lease."""
        self._task.start()

    def notice(self, view: View) -> None:
        """Renew the lease at once if a view shows that the last lease is out of date.

        That is so if the role has changed, or if leases can be written again after a failure.
        """
        written = self._written
        if view.leases_readable and (written is None or written.role is not self._member.lease.role):
            self._task.soon()

    def set_interval(self, seconds: float) -> None:
        """Take another interval, and renew the lease at once, because its content may have changed; for any thread."""
        self._interval = seconds
        self._task.soon()

    def renew_soon(self) -> None:
        """Renew the lease at once, because it must say something else; for any thread."""
        self._task.soon()

    @property
    def written(self) -> Lease | None:
        """Return the lease that was written last; None if none is known to be there. For any thread."""
        return self._written

    def seconds_since_renewal(self) -> float | None:
        """Return the seconds since the lease was last written; None before the first time."""
        return None if self._renewed_at is None else time.monotonic() - self._renewed_at

    def stop(self) -> None:
        """Stop the renewal. If a lease was ever written, write a last one, to say that this instance has stopped.

        A renewal under way gets a short time to end, and is interrupted after that. Returns once the last lease is
        written or its time is over.
        """
        self._task.stop()
        if not self._task.ends_within(ending.LEASE_GRACE_SECONDS):
            self._client.session.interrupt()
            self._task.join(ending.LEASE_SECONDS - ending.LEASE_GRACE_SECONDS)

    def _release(self) -> None:
        if self._renewed_at is None or not self._database.state.usable:
            return
        try:
            if (node := self._node()) is not None:
                last = self._member.next_lease(node, released=True)
                self._last_client.put_lease(self._database.name, last)
                log.info("lease released")
                if self._written is not None:
                    self._remove_as_standby(self._last_client, last, [self._written])
        except CouchError as error:
            # Other instances will notice that the lease no longer grows.
            log.warning("lease not released", kind=error.kind, error=str(error))

    def _turn(self) -> float:
        if self._is_alive():
            self._renew()
            self._renewals += 1
        pause = self._interval if self._renewals > _FIRST_RENEWALS else min(self._interval, _FIRST_SECONDS)
        return pause * (1 + random.uniform(-_JITTER, _JITTER))  # noqa: S311 - spreads requests, guards nothing

    def _renew(self) -> None:
        try:
            if (node := self._node()) is None or not self._member.has_read_leases:
                return
            if not self._database.state.usable:
                # The database is missing, somebody else's, or was open to others; the cluster watch logs that.
                self._written = None
                return
            # Another instance beside the same node may have written its lease since. Read it before it is overwritten.
            leases = self._client.leases(self._database.name)
            self._member.observe(node, leases, time.monotonic())
            self._look_for_maintenance()
            lease = self._member.next_lease(node, maintenance=self.maintenance, drained=self._is_drained())
            self._client.put_lease(self._database.name, lease)
        except InterruptedRequestError:
            return
        except NotFoundError as error:
            self._written = None
            self._database.check_soon()
            # If the database was deleted, the cluster watch makes it again and logs that. If a proxy answered 404,
            # nobody else would report it.
            if not error.is_of_database:
                self._failed(error.kind, error)
        except CouchError as error:
            self._failed(error.kind, error)
        except Exception as error:
            self._failed("unforeseen", error)
            raise
        else:
            self._written = lease
            self._member.note_written(lease)
            self._renewed_at = time.monotonic()
            self._recovered()
            self._remove_as_standby(self._client, lease, leases)

    def _remove_as_standby(self, client: Client, lease: Lease, leases: Iterable[Lease]) -> None:
        """Remove the lease that this instance wrote as a standby, now that it is active.

        Otherwise each later start and each `peruserd plan` would take it for another instance that has fallen silent.
        """
        if lease.role is not Role.ACTIVE:
            return
        if any(each.role is Role.STANDBY and each.incarnation == lease.incarnation for each in leases):
            try:
                client.delete_local(self._database.name, lease_id(lease.node, Role.STANDBY))
            except CouchError as error:
                # The active lease is written. The next renewal tries again.
                log.debug("the lease as a standby cannot be removed", kind=error.kind, error=str(error))

    def _look_for_maintenance(self) -> None:
        try:
            before, self.maintenance = self.maintenance, self._client.in_maintenance()
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # A proxy closes `/_up`, or answers it itself, and a balancer without a server does so with 503. The lease
            # must be written all the same.
            log.debug("it is not known whether the node is in maintenance mode", kind=error.kind, error=str(error))
            return
        if self.maintenance is not before:
            log.info(
                "node in maintenance mode; its users are served all the same" if self.maintenance else "node in service"
            )

    def _failed(self, kind: str, error: Exception) -> None:
        self.failures += 1
        if kind != self._failed_kind:
            log.warning("lease not written; others may take this instance for dead", kind=kind, error=str(error))
        self._failed_kind = kind

    def _recovered(self) -> None:
        if self._failed_kind is not None:
            log.info("lease can be written again")
        self._failed_kind = None
