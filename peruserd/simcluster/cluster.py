"""A simulated cluster in an asyncio loop: the model, a server for each node, and the clock that drives replication."""

import asyncio
import time

from peruserd.simcluster import seeding
from peruserd.simcluster.accounts import Accounts
from peruserd.simcluster.damage import Damage
from peruserd.simcluster.faults import Faults
from peruserd.simcluster.listing import Listings
from peruserd.simcluster.model import ClusterModel
from peruserd.simcluster.moving import Mover
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.performing import Controls
from peruserd.simcluster.peruser import SECTION, Peruser
from peruserd.simcluster.splitting import Job, Splitter
from peruserd.simcluster.tally import Tally
from peruserd.simcluster.web.exchange import Services
from peruserd.simcluster.web.server import Listener, NodeServer


class SimCluster:
    """The cluster. Made, started, used and stopped in one loop; the controls are its methods, reached by `control`."""

    def __init__(self, options: ClusterOptions) -> None:
        self.options = options
        self.model = ClusterModel(options, time.time)
        self.tally = Tally()
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
            tally=self.tally,
            listings=Listings(),
            on_split=self.schedule_splits,
            on_config=self._reconfigure,
        )
        self.servers = [
            NodeServer(services, self.faults, node, options.port_of(node.number)) for node in self.model.nodes
        ]
        self._control = None
        if options.control_port is not None:
            self._control = Listener(Controls(self).handle, options.control_port)
        self._replication: asyncio.TimerHandle | None = None
        self._splits: dict[str, asyncio.TimerHandle] = {}
        self.model.on_owed = self._schedule_replication
        seeding.make_auth_database(self.model)

    @property
    def urls(self) -> list[str]:
        """The nodes' addresses, with credentials."""
        return [server.url for server in self.servers]

    @property
    def control_url(self) -> str | None:
        """The address of the controls."""
        return f"http://127.0.0.1:{self._control.port}" if self._control else None

    async def start(self) -> None:
        """Open the nodes' ports; OSError where one is taken, and none stays open then."""
        try:
            for server in self.servers:
                await server.listener.open()
            if self._control:
                await self._control.open()
        except OSError:
            await self.stop()
            raise

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
        if self._control:
            await self._control.close()

    # Driven by the clock.

    def set_replication_delay(self, seconds: float) -> None:
        """Replicate this late from now on, what waits already as well."""
        self._replication_delay_seconds = seconds
        self.model.delayed = seconds > 0
        if self._replication:
            self._replication.cancel()
            self._replication = None
        self._schedule_replication()

    def _schedule_replication(self) -> None:
        if self._replication is None and self.model.owes():
            loop = asyncio.get_running_loop()
            self._replication = loop.call_later(self._replication_delay_seconds, self._replicate)

    def _replicate(self) -> None:
        self._replication = None
        self.replicate()

    def replicate(self) -> None:
        """Replicate what waits, and end the moves whose new copy lacks nothing any more."""
        self.model.replicate()
        self.mover.finish()

    def schedule_splits(self) -> None:
        """Let each job that waits take its next step in its turn, one delay after the other."""
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
