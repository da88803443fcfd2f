"""The lease renewer: a thread that writes this instance's lease again and again, while the supervisor's loop runs.

It has a session of its own, so that nothing the watcher waits for delays a renewal, and another one for its
last words, which no renewal delays either. It decides nothing.
"""

import random
import threading
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
    RejectedError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from peruserd.supervisor.membership import Member

# Two instances beside one node write the same document. Jitter lets each of them see the other's lease.
_JITTER: Final = 0.1

# Others believe a new lease once they have seen it grow, so the first renewals come quickly.
_FIRST_RENEWALS: Final = 5
_FIRST_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class LeaseRenewer:
    """Renews the lease every `interval_seconds`, beside the node that `node` returns.

    `node` raises CouchError while it is unknown and returns None where no leases are kept. `is_alive` says whether the
    work that the lease stands for goes on: a daemon that hangs must lose its lease.
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
    ) -> None:
        self._client = client
        self._last_client = last_client
        self._member = member
        self._database = database
        self._interval = interval_seconds
        self._node = node
        self._is_alive = is_alive
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)
        self._renewed_at: float | None = None
        self._written: Lease | None = None
        self._failed_kind: str | None = None
        self.failures = 0
        self.maintenance = False

    def start(self) -> None:
        """Begin to renew the lease."""
        self._thread.start()

    def notice(self, view: View) -> None:
        """Renew the lease at once where a look shows that the last lease is no longer right.

        The role has changed, or leases can be written again after a while in which they could not.
        """
        written = self._written
        if view.leases_readable and (written is None or written.role is not self._member.lease.role):
            self._wanted.set()

    def seconds_since_renewal(self) -> float | None:
        """Return the seconds since the lease was last written; None while it never was."""
        return None if self._renewed_at is None else time.monotonic() - self._renewed_at

    def stop(self) -> None:
        """Renew the lease no more. A last lease says that this instance has stopped, if one ever said that it lives.

        A renewal that is under way may end if it is quick, and is interrupted otherwise. Returns once the last lease
        was written, or was not in time.
        """
        self._stopping = True
        self._wanted.set()
        self._thread.join(ending.LEASE_GRACE_SECONDS)
        if self._thread.is_alive():
            self._client.session.interrupt()
            ending.join(self._thread, ending.LEASE_SECONDS - ending.LEASE_GRACE_SECONDS)

    def _release(self) -> None:
        if self._renewed_at is None or not self._database.state.usable:
            return
        try:
            if (node := self._node()) is not None:
                last = self._member.sign(node, released=True)
                self._last_client.put_lease(self._database.name, last)
                log.info("lease released")
                if self._written is not None:
                    self._remove_as_standby(self._last_client, last, [self._written])
        except CouchError as error:
            # The others will find out by its silence.
            log.warning("lease not released", kind=error.kind, error=str(error))

    def _run(self) -> None:
        renewals = 0
        while not self._stopping:
            if self._is_alive():
                self._renew()
                renewals += 1
            pause = self._interval if renewals > _FIRST_RENEWALS else min(self._interval, _FIRST_SECONDS)
            jitter = 1 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 - spreads requests, guards nothing
            self._wanted.wait(pause * jitter)
            self._wanted.clear()
        self._release()

    def _renew(self) -> None:
        try:
            if (node := self._node()) is None or not self._member.has_looked:
                return
            if not self._database.state.usable:
                # It is not there, or somebody else's, or others could have written there; the watcher says so.
                self._written = None
                return
            # A lease that another instance beside the same node has written since would be overwritten unseen.
            leases = self._client.leases(self._database.name)
            self._member.observe(node, leases, time.monotonic())
            self._look_for_maintenance()
            lease = self._member.sign(node, maintenance=self.maintenance)
            self._client.put_lease(self._database.name, lease)
            self._remove_as_standby(self._client, lease, leases)
        except InterruptedRequestError:
            return
        except NotFoundError as error:
            self._written = None
            self._database.suspect()
            # A database that was deleted a moment ago the watcher makes again, and says so. Nobody mends a proxy.
            if not error.is_of_database:
                self._failed(error.kind, error)
        except CouchError as error:
            self._failed(error.kind, error)
        except Exception as error:
            # Without this thread the instance would be dead for all others, and would not know.
            log.exception("unforeseen failure while the lease was renewed")
            self._failed("unforeseen", error)
        else:
            self._written = lease
            self._renewed_at = time.monotonic()
            self._recovered()

    def _remove_as_standby(self, client: Client, lease: Lease, leases: Iterable[Lease]) -> None:
        """Remove what this instance wrote as a standby, now that it is active.

        It would be taken for another instance that has fallen silent, by each later start and by each look at the plan.
        """
        if lease.role is not Role.ACTIVE:
            return
        if any(each.role is Role.STANDBY and each.incarnation == lease.incarnation for each in leases):
            client.delete_local(self._database.name, lease_id(lease.node, Role.STANDBY))

    def _look_for_maintenance(self) -> None:
        try:
            before, self.maintenance = self.maintenance, self._client.in_maintenance()
        except (RejectedError, UnauthorizedError, UnexpectedAnswerError):
            # A proxy keeps `/_up` to itself, or answers it in its own words. The lease is worth more than this.
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
