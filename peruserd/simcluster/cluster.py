"""A simulated cluster in an asyncio loop: the model, a server for each node, and the clock that drives replication."""

import asyncio
import time

from peruserd.simcluster.accounts.accounts import Accounts
from peruserd.simcluster.events import seed
from peruserd.simcluster.events.couch_peruser import SECTION, Peruser
from peruserd.simcluster.events.damage import Damage
from peruserd.simcluster.events.moves import Mover
from peruserd.simcluster.events.splits import Job, Splitter
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.web.exchange import Services
from peruserd.simcluster.web.faults import Faults
from peruserd.simcluster.web.request_log import RequestLog
from peruserd.simcluster.web.server import NodeServer
from peruserd.simcluster.web.sorted_documents import SortedDocuments


class SimCluster:
    """The cluster, made, started, used and stopped in one loop."""

    def __init__(self, options: ClusterOptions) -> None:
        self.options = options
        self.model = ClusterModel(options, time.time)
        self.request_log = RequestLog()
        self.splitter = Splitter(self.model)
        self.mover = Mover(self.model)
        self.damage = Damage(self.model)
        self.faults = Faults(self.model.random)
        self.accounts = Accounts(self.model)
        self.peruser = Peruser(self.model)
        self._replication_delay_seconds = options.replication_delay_seconds
        self.split_delay_seconds: float | None = options.split_delay_seconds
        services = Services(
            model=self.model,
            splitter=self.splitter,
            accounts=self.accounts,
            request_log=self.request_log,
            sorted_documents=SortedDocuments(),
            on_split=self.schedule_splits,
            on_config=self._reconfigure,
        )
        self.servers = [
            NodeServer(services, self.faults, node, options.port_of(node.number)) for node in self.model.nodes
        ]
        self._replication: asyncio.TimerHandle | None = None
        self._splits: dict[str, asyncio.TimerHandle] = {}
        self.model.on_backlog = self._schedule_replication
        seed.make_auth_database(self.model)

    @property
    def urls(self) -> list[str]:
        """The nodes' addresses, with credentials."""
        return [server.url for server in self.servers]

    async def start(self) -> None:
        """Open the nodes' ports. OSError where one is taken; `stop` closes those that are open then."""
        for server in self.servers:
            await server.listener.open()

    async def stop(self) -> None:
        """Cut all connections and close all ports."""
        for timer in (self._replication, *self._splits.values()):
            if timer:
                timer.cancel()
        self._splits.clear()
        await self.peruser.stop()
        for server in self.servers:
            server.release()
            await server.listener.close()

    # Driven by the clock.

    def set_replication_delay(self, seconds: float) -> None:
        """Set the delay of replication, also for the documents that wait already."""
        self._replication_delay_seconds = seconds
        self.model.delayed = seconds > 0
        if self._replication:
            self._replication.cancel()
            self._replication = None
        self._schedule_replication()

    def _schedule_replication(self) -> None:
        if self._replication is None and self.model.has_backlog():
            loop = asyncio.get_running_loop()
            self._replication = loop.call_later(self._replication_delay_seconds, self._replicate)

    def _replicate(self) -> None:
        self._replication = None
        self.replicate()

    def replicate(self) -> None:
        """Replicate the documents that wait, and end each move whose new copy is complete."""
        self.model.replicate()
        self.mover.finish()

    def schedule_splits(self) -> None:
        """Plan the next step of each split job that waits, one delay after the other."""
        if self.split_delay_seconds is None:
            return
        loop = asyncio.get_running_loop()
        waiting = [job for job in self.splitter.waiting() if job.id not in self._splits]
        for turn, job in enumerate(waiting, start=1):
            self._splits[job.id] = loop.call_later(self.split_delay_seconds * turn, self._split, job)

    def _reconfigure(self, section: str) -> None:
        if section == SECTION:
            self.peruser.refresh()

    def _split(self, job: Job) -> None:
        del self._splits[job.id]
        if self.splitter.run(job):
            self.schedule_splits()
