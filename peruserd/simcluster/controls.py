"""The controls of a running cluster: each operation once, with its types and its meaning.

The operations run in the cluster's own event loop. `ControlClient` offers them to other threads and processes, and
makes its methods from the signatures here. Arguments and answers are therefore values that JSON can carry.
"""

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from peruserd.simcluster.cluster import SimCluster
from peruserd.simcluster.events import seed, splits
from peruserd.simcluster.events.couch_peruser import SECTION
from peruserd.simcluster.model import ids, lost
from peruserd.simcluster.web.faults import Delay, Fault
from peruserd.simcluster.web.request_log import Write

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


def _waiting(operation: Callable[_Parameters, Coroutine[Any, Any, _Answer]]) -> Callable[_Parameters, _Answer]:
    """Give a coroutine function the type of a plain function, as callers of a client see it.

    `control_port.perform` awaits it, so a caller gets the answer at its end.
    """
    return cast("Callable[_Parameters, _Answer]", operation)


class Controls:
    """Operations that change or inspect a simulated cluster. Nodes are numbered from 1.

    An operation about something that is not there raises LookupError or ValueError.
    """

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster

    def describe(self) -> dict[str, Any]:
        """Return `urls` (with credentials) and `node_names`, in the order of the nodes' numbers."""
        return {"urls": self._cluster.urls, "node_names": [node.name for node in self._cluster.model.nodes]}

    @_waiting
    async def stop_node(self, node: int) -> None:
        """Kill a node: its port closes, its connections are cut, and other nodes do not see it. Its files are kept."""
        stopped = self._cluster.model.node(node)
        if stopped.alive:
            self._cluster.model.set_alive(stopped, alive=False)
            self._cluster.peruser.refresh()
            await self._cluster.servers[node - 1].listener.close()

    @_waiting
    async def start_node(self, node: int) -> None:
        """Start a stopped node on the same port. It catches up after the replication delay."""
        started = self._cluster.model.node(node)
        if not started.alive:
            await self._cluster.servers[node - 1].listener.open()
            self._cluster.model.set_alive(started, alive=True)
            started.directory.started += 1
            self._cluster.peruser.refresh()
            self._cluster.schedule_splits()

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Let only nodes of one group see each other. Clients still reach all nodes."""
        for number in (number for group in groups for number in group):
            self._cluster.model.node(number)
        self._cluster.model.partition(groups)
        self._cluster.peruser.refresh()

    def heal(self) -> None:
        """Let all nodes see each other again."""
        self._cluster.model.partition([])
        self._cluster.peruser.refresh()

    def join_node(self, node: int) -> None:
        """Let a node join the cluster. It gets all shard maps after the replication delay."""
        self._cluster.model.set_joined(self._cluster.model.node(node), joined=True)
        self._cluster.peruser.refresh()

    def leave_node(self, node: int) -> None:
        """Let a node leave the cluster. It sees no other node then, and no other node sees it. Its files are kept."""
        self._cluster.model.set_joined(self._cluster.model.node(node), joined=False)
        self._cluster.peruser.refresh()

    def maintenance(self, node: int, *, on: bool) -> None:
        """Take a node out of service, or back in."""
        self._cluster.model.node(node).config["couchdb"]["maintenance_mode"] = "true" if on else "false"

    def set_clock(self, node: int, seconds: float) -> None:
        """Set a node's clock this many seconds ahead of the other clocks. A negative number sets it behind them."""
        self._cluster.model.node(node).clock_offset_seconds = seconds

    def set_delay(self, node: int, seconds: float, path_regex: str | None = None) -> None:
        """Make a node's answers late: all, or those to requests whose path and query match. 0 ends the delay."""
        self._cluster.faults.delay(self._cluster.model.node(node).name, Delay(seconds, _pattern(path_regex)))

    def fail(
        self,
        node: int,
        outcome: int | str,
        *,
        count: int | None = None,
        probability: float = 1.0,
        path_regex: str | None = None,
        method: str | None = None,
    ) -> None:
        """Make requests to a node go wrong: an HTTP error status, `cut`, `cut-after`, `cut-mid` or `hang`.

        `count` is how many requests, None is all; each fails with this probability. The connection is cut before the
        node acts on a request (`cut`), between the act and the answer (`cut-after`), or in the middle of the answer
        (`cut-mid`).
        """
        name = self._cluster.model.node(node).name
        self._cluster.faults.add(Fault(name, outcome, count, probability, _pattern(path_regex), method))

    def clear_faults(self) -> None:
        """End all delays and failures. Requests that hang are cut."""
        self._cluster.faults.clear()
        for server in self._cluster.servers:
            server.release()

    def split(self, database: str, covered: str | None = None) -> list[str]:
        """Start to split a range, or all ranges of a database. Return the ids of the jobs, one for each copy."""
        jobs = self._cluster.splitter.start(self._cluster.model.live_member(), database, covered)
        self._cluster.schedule_splits()
        return [job.id for job in jobs]

    def release_splits(self, nodes: Sequence[int] | None = None, *, remove: bool = True) -> int:
        """Run the waiting split jobs of these nodes, or of all nodes, at once. Return how many ran.

        Without `remove` the copies that were split stay until the next call.
        """
        names = None if nodes is None else {self._cluster.model.node(number).name for number in nodes}
        splitter = self._cluster.splitter
        due = [job for job in splitter.waiting() if names is None or job.node in names]
        ran = [job for job in due if splitter.run(job)]
        for job in ran if remove else ():
            splitter.run(job)
        return len(ran)

    def set_split_delay(self, seconds: float | None) -> None:
        """Set how long each node waits before each step of a split. None makes it wait for `release_splits`."""
        self._cluster.split_delay_seconds = seconds

    def add_copy(self, database: str, covered: str, node: int) -> None:
        """Give a node a copy of a range. It is empty at first, and replication fills it after its delay.

        ValueError where the node is no member, or has a copy of a part of the range.
        """
        self._cluster.mover.add(database, covered, self._cluster.model.node(node))

    def remove_copy(self, database: str, covered: str, node: int) -> None:
        """Remove a node's copy of a range at once, with documents of it alone. ValueError where it is the last copy."""
        self._cluster.mover.remove(database, covered, self._cluster.model.node(node))

    def move_copy(self, database: str, covered: str, from_node: int, to_node: int) -> None:
        """Give one node a copy of a range, and remove the copy of the other node when the new one is complete."""
        source, target = self._cluster.model.node(from_node), self._cluster.model.node(to_node)
        self._cluster.mover.move(database, covered, source, target)

    def set_replication_delay(self, seconds: float) -> None:
        """Set how late a copy gets a write that it did not get at once.

        With a delay above 0 only the copy of the node that was asked gets a write at once.
        """
        self._cluster.set_replication_delay(seconds)

    def replicate(self) -> None:
        """Replicate now, without waiting for the delay."""
        self._cluster.replicate()

    def rebuild_copy(self, node: int, database: str, covered: str) -> None:
        """Make a node's copy of a range again from scratch, with another uuid and other sequence numbers."""
        splits.rebuild(self._cluster.model, self._cluster.model.node(node), database, covered)

    def lose_copy(self, node: int, database: str, covered: str | None = None) -> None:
        """Remove the files of a node's copies of a database, or of one range; the shard map names them still."""
        lost.lose(self._cluster.model.node(node), database, covered)

    def pause_replication(self, node: int, database: str) -> None:
        """Keep a node's copies of a database behind. They still answer, but get no document from now on."""
        self._cluster.model.pause_replication(self._cluster.model.node(node), database)

    def resume_replication(self, node: int, database: str) -> None:
        """Let a node's copies of a database catch up, after the replication delay."""
        self._cluster.model.resume_replication(self._cluster.model.node(node), database)

    def set_copy_security(
        self, node: int, database: str, security: Mapping[str, Any] | None = None, *, covered: str | None = None
    ) -> None:
        """Replace the security object of one node's copies of a database, or of its copy of one range.

        None makes it blank, `{}`, as after a change of the disk. The object of a new database is `DEFAULT_SECURITY`. As
        on a real cluster, a majority's object wins again when nodes meet, or when a document of the database is
        written.
        """
        self._cluster.damage.set_security(self._cluster.model.node(node), database, dict(security or {}), covered)

    def forget_documents(self, node: int, database: str, document_ids: Sequence[str]) -> None:
        """Let a node's copy lose documents without a row in its feed. Replication does not bring them back.

        An id with a `%`, or with bytes that are no UTF-8, is escaped as in a path.
        """
        self._cluster.damage.forget(self._cluster.model.node(node), database, document_ids)

    def back_up_copies(self, node: int, database: str) -> int:
        """Back up a node's copies of a database, as a copy of their files would. Return the number of the backup."""
        return self._cluster.damage.back_up(self._cluster.model.node(node), database)

    def restore_copies(self, backup: int) -> None:
        """Restore a backup: the copies have the same uuids and another history.

        Other copies replicate to them the documents that they lack, unless `pause_replication` was called before.
        """
        self._cluster.damage.restore(backup)

    def seed_users(self, count: int, prefix: str = "user", *, provisioned_prefix: str | None = None) -> list[str]:
        """Load user documents without HTTP. Return the names, which are `prefix` and six digits.

        With a `provisioned_prefix` (such as `userdb-`) each user also gets a database, which is secured.
        """
        return seed.add_users(self._cluster.model, count, prefix, provisioned_prefix)

    def add_user(self, name: str, password: str) -> None:
        """Write one user document without HTTP."""
        seed.add_user(self._cluster.model, self._cluster.model.live_member(), name, password)

    def set_peruser(
        self,
        *,
        on: bool,
        node: int | None = None,
        delete_dbs: bool = False,
        start_seconds: float = 0.0,
        step_seconds: float = 0.0,
    ) -> None:
        """Switch CouchDB's own couch_peruser on or off, on all nodes or on one, as their configuration does.

        `start_seconds` after it was switched on, after each change of membership and after each crash it reads the feed
        from the beginning. `step_seconds` pass between its read and its write for a user.
        """
        for each in self._cluster.model.nodes if node is None else [self._cluster.model.node(node)]:
            each.config[SECTION]["enable"] = "true" if on else "false"
            each.config[SECTION]["delete_dbs"] = "true" if delete_dbs else "false"
        self._cluster.peruser.start_seconds = start_seconds
        self._cluster.peruser.step_seconds = step_seconds
        self._cluster.peruser.refresh()

    def open_users(self) -> None:
        """Let everybody sign up. Nodes allow changes of the security object of `_users`, and it has no members then."""
        seed.open_users(self._cluster.model)

    def set_admin_password(self, password: str, *, node: int | None = None) -> None:
        """Change the server admin's password at run time, on all nodes or on one. Its session cookies end.

        `urls` keep the old password.
        """
        nodes = self._cluster.model.nodes if node is None else [self._cluster.model.node(node)]
        self._cluster.accounts.set_admin(nodes, self._cluster.options.admin[0], password)

    def set_lockout(self, threshold: int, seconds: float) -> None:
        """Set how many wrong passwords lock an account for an address, and for how long after the first of them."""
        lockouts = self._cluster.accounts.lockouts
        lockouts.threshold, lockouts.seconds = threshold, seconds

    def clear_lockouts(self) -> None:
        """Unlock all accounts, as if the time was over."""
        self._cluster.accounts.lockouts.clear()

    def requests(self) -> dict[tuple[str, str, str], int]:
        """Return the number of requests by node, method and kind of path (such as `shard_changes`)."""
        return dict(self._cluster.request_log.requests)

    def clear_requests(self) -> None:
        """Forget the requests, creations, deletions and writes so far."""
        self._cluster.request_log.clear()

    def writes(self) -> list[Write]:
        """Return the requests to create, delete or secure a database in their order, refused ones too.

        An instance talks to its own node, so the node of a write is the instance that acted.
        """
        return list(self._cluster.request_log.writes)

    def creations(self) -> dict[str, int]:
        """Return by database how many times a `PUT` on it was answered with 201 or 202."""
        return dict(self._cluster.request_log.created)

    def deletions(self) -> dict[str, int]:
        """Return by database how many times a `DELETE` of it was answered with 200 or 202."""
        return dict(self._cluster.request_log.deleted)

    def databases(self, node: int = 1) -> list[str]:
        """Return the sorted names of the databases that a node knows."""
        return list(self._cluster.model.node(node).names)

    def snapshot_security(self, database: str) -> dict[str, dict[str, Any]]:
        """Return the security object of every copy of a database: by node, by range."""
        return {
            node.name: {str(copy.range): ids.shown_value(copy.security) for copy in node.holdings.get(database, ())}
            for node in self._cluster.model.nodes
        }

    def snapshot_copies(self, database: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return, by node and range, each copy's `uuid`, `update_seq` and `revs`, the winner by document id."""
        return {
            node.name: {
                str(copy.range): {
                    "uuid": copy.uuid,
                    "update_seq": copy.update_seq,
                    "revs": {ids.noted(document_id): leaves[0].rev for document_id, (_, leaves) in copy.docs.items()},
                }
                for copy in node.holdings.get(database, ())
            }
            for node in self._cluster.model.nodes
        }


def _pattern(path_regex: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(path_regex) if path_regex is not None else None
    except re.error as error:
        raise ValueError(f"{path_regex!r} is not a regular expression: {error}") from error
