"""A simulated cluster with its control port: the part that a thread and a process have in common."""

from peruserd.simcluster.cluster import SimCluster
from peruserd.simcluster.control_port import handler
from peruserd.simcluster.controls import Controls
from peruserd.simcluster.options import ClusterOptions
from peruserd.simcluster.web.server import Listener


class ClusterServer:
    """Serves the nodes of a cluster, and its controls where the options ask for them. It is used in one event loop."""

    def __init__(self, options: ClusterOptions) -> None:
        self.cluster = SimCluster(options)
        self.controls = Controls(self.cluster)
        self._port = None
        if options.control_port is not None:
            self._port = Listener(handler(self.controls), options.control_port)

    @property
    def control_url(self) -> str | None:
        """The address of the controls."""
        return f"http://127.0.0.1:{self._port.port}" if self._port else None

    async def start(self) -> None:
        """Open all ports; OSError where one is taken, and none stays open then."""
        try:
            await self.cluster.start()
            if self._port:
                await self._port.open()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Cut all connections and close all ports."""
        await self.cluster.stop()
        if self._port:
            await self._port.close()
