"""The options of a simulated cluster, with their meaning."""

from typing import Final

import msgspec

AUTH_DATABASE: Final = "_users"

# Node k listens on the first port plus this, as the development clusters of CouchDB do.
PORT_STEP: Final = 10_000

_HIGHEST_PORT: Final = 65_535


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a simulated cluster at its start.

    - `nodes` are called `node1@127.0.0.1`, `node2@…`. The last `spare` of them run but have not joined.
    - `q` and `n` are the ranges and copies of a database whose maker does not say how many, such as `_users`.
    - `port` is node 1's. The other ports follow, `PORT_STEP` apart. 0 takes free ports.
    - `control_port` serves the controls. None leaves them out, and 0 takes a free port.
    - `user` is the server admin, as `name:password`.
    - `seed` fixes every random choice.
    - `replication_delay_seconds` is how late a copy gets a write that it did not get at once.
    - `split_delay_seconds` is how long each node waits before it splits its copy, and again before it removes the old
      one. The nodes wait one after the other.
    - `request_seconds` is added to every clustered write.
    - `repairs_security` lets copies agree on one security object again. CouchDB's own repair skips a shard
      that was made too late for it (measured).
    """

    nodes: int = 3
    spare: int = 0
    q: int = 2
    n: int = 3
    port: int = 0
    control_port: int | None = None
    user: str = "adm:pass"
    seed: int = 1
    replication_delay_seconds: float = 0.0
    split_delay_seconds: float = 0.05
    request_seconds: float = 0.0
    repairs_security: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible clusters with ValueError."""
        if self.nodes < 1 or self.q < 1 or self.n < 1:
            raise ValueError("a cluster has at least one node, one range and one copy")
        if not 0 <= self.spare < self.nodes:
            raise ValueError("at least one node of a cluster has joined it")
        last = self.port_of(self.nodes)
        if last > _HIGHEST_PORT:
            raise ValueError(f"node {self.nodes} would listen on port {last}; choose a lower port, or 0 for free ones")
        if ":" not in self.user:
            raise ValueError("the server admin is given as name:password")

    @property
    def admin(self) -> tuple[str, str]:
        """The server admin's name and password."""
        name, _, password = self.user.partition(":")
        return name, password

    def port_of(self, number: int) -> int:
        """Return the port asked for node `number`, counted from 1; 0 where any free one will do."""
        return self.port + PORT_STEP * (number - 1) if self.port else 0


def node_name(number: int) -> str:
    """Return the name of node `number`, counted from 1."""
    return f"node{number}@127.0.0.1"
