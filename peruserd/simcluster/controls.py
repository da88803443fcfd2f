"""The controls of a running cluster, said once: one face for the thread, the process and the loop itself.

Callers see `ControlFace`; its subclasses decide how a call travels. Everything that goes in and out of a call is JSON,
so the same call works within a process and over the control port.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from peruserd.simcluster.tally import Write


class ControlFace(ABC):
    """Typed calls that change or inspect a simulated cluster; nodes are numbered from 1.

    A call that asks for what is not there raises LookupError or ValueError.
    """

    @abstractmethod
    def _call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Carry out one control and return its answer, as JSON values."""

    def describe(self) -> dict[str, Any]:
        """Return `urls` (with credentials) and `node_names`, in the order of the nodes' numbers."""
        described: dict[str, Any] = self._call("describe", {})
        return described

    def stop_node(self, node: int) -> None:
        """Kill a node: its port closes, its connections are cut, the others lose it; what it holds is kept."""
        self._call("stop_node", {"node": node})

    def start_node(self, node: int) -> None:
        """Start a node that was stopped, on the same port; it catches up after the replication delay."""
        self._call("start_node", {"node": node})

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Let only nodes of one group see each other; clients still reach them all."""
        self._call("partition", {"groups": [list(group) for group in groups]})

    def heal(self) -> None:
        """Let all nodes see each other again."""
        self._call("heal", {})

    def join_node(self, node: int) -> None:
        """Let a node become a member of the cluster; it learns all shard maps after the replication delay."""
        self._call("join_node", {"node": node})

    def leave_node(self, node: int) -> None:
        """Let a node be a member no longer: it sees nobody and nobody sees it; what it holds is kept."""
        self._call("leave_node", {"node": node})

    def maintenance(self, node: int, *, on: bool) -> None:
        """Take a node out of service, or back in."""
        self._call("maintenance", {"node": node, "on": on})

    def set_clock(self, node: int, seconds: float) -> None:
        """Let a node's clock be so many seconds ahead of the others', or behind them where it is negative."""
        self._call("set_clock", {"node": node, "seconds": seconds})

    def set_delay(self, node: int, seconds: float, path_regex: str | None = None) -> None:
        """Make a node's answers late, all or those whose path and query match; 0 ends it."""
        self._call("set_delay", {"node": node, "seconds": seconds, "path_regex": path_regex})

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

        `count` requests, or all; each with this probability. `cut` is before the request is acted on, `cut-after` when
        it was but before the answer, `cut-mid` within the answer.
        """
        arguments = {
            "node": node,
            "outcome": outcome,
            "count": count,
            "probability": probability,
            "path_regex": path_regex,
            "method": method,
        }
        self._call("fail", arguments)

    def clear_faults(self) -> None:
        """End all delays and failures; requests that hang are cut."""
        self._call("clear_faults", {})

    def split(self, database: str, covered: str | None = None) -> list[str]:
        """Begin to split a range, or all of a database; return the ids of the jobs, one for each copy."""
        jobs: list[str] = self._call("split", {"database": database, "covered": covered})
        return jobs

    def release_splits(self, nodes: Sequence[int] | None = None, *, remove: bool = True) -> int:
        """Run the split jobs that wait, of these nodes or of all, without waiting longer; return how many.

        Without `remove` what was split stays, for the next call to remove.
        """
        arguments = {"nodes": None if nodes is None else list(nodes), "remove": remove}
        ran: int = self._call("release_splits", arguments)
        return ran

    def set_split_delay(self, seconds: float | None) -> None:
        """Set how long each node waits before each step of a split; None: until `release_splits`."""
        self._call("set_split_delay", {"seconds": seconds})

    def add_copy(self, database: str, covered: str, node: int) -> None:
        """Give a node a copy of a range: empty at first and filled by replication, after its delay.

        ValueError where the node is no member, or has a copy of a part of the range.
        """
        self._call("add_copy", {"database": database, "covered": covered, "node": node})

    def remove_copy(self, database: str, covered: str, node: int) -> None:
        """Take a node's copy of a range away at once, with what no other copy has; ValueError where it is the last."""
        self._call("remove_copy", {"database": database, "covered": covered, "node": node})

    def move_copy(self, database: str, covered: str, from_node: int, to_node: int) -> None:
        """Give one node a copy of a range, and take away the other's once the new one lacks nothing."""
        arguments = {"database": database, "covered": covered, "from_node": from_node, "to_node": to_node}
        self._call("move_copy", arguments)

    def set_replication_delay(self, seconds: float) -> None:
        """Set how late a copy gets what it did not get at once.

        Above 0 that is every write on every copy but the one of the node that was asked.
        """
        self._call("set_replication_delay", {"seconds": seconds})

    def replicate(self) -> None:
        """Replicate now what waits for the delay to pass."""
        self._call("replicate", {})

    def rebuild_copy(self, node: int, database: str, covered: str) -> None:
        """Make a node's copy of a range again from scratch: another uuid, other sequence numbers."""
        self._call("rebuild_copy", {"node": node, "database": database, "covered": covered})

    def pause_replication(self, node: int, database: str) -> None:
        """Keep a node's copies of a database behind: they answer, and get no document that is written from now on."""
        self._call("pause_replication", {"node": node, "database": database})

    def resume_replication(self, node: int, database: str) -> None:
        """Let a node's copies of a database catch up, after the replication delay."""
        self._call("resume_replication", {"node": node, "database": database})

    def set_copy_security(
        self, node: int, database: str, security: Mapping[str, Any] | None = None, *, covered: str | None = None
    ) -> None:
        """Replace the security object of a node's copies of a database, or of one range, alone.

        None makes it blank, `{}`, as a new disk does; `simcluster.DEFAULT_SECURITY` is what the server makes. As on a
        real cluster, a majority's object wins again when nodes meet, or when a document of the database is written.
        """
        arguments = {"node": node, "database": database, "security": dict(security or {}), "covered": covered}
        self._call("set_copy_security", arguments)

    def forget_documents(self, node: int, database: str, document_ids: Sequence[str]) -> None:
        """Let a node's copy lose documents as if it never had them; no row tells of it, and nobody brings them back.

        An id with odd bytes or a `%` is given as in a path.
        """
        arguments = {"node": node, "database": database, "document_ids": list(document_ids)}
        self._call("forget_documents", arguments)

    def back_up_copies(self, node: int, database: str) -> int:
        """Keep what a node's copies of a database hold now, as a copy of their files would; return its number."""
        number: int = self._call("back_up_copies", {"node": node, "database": database})
        return number

    def restore_copies(self, backup: int) -> None:
        """Put a backup back in place: the same uuids, another history. Others replicate what it lacks.

        With `pause_replication` before, it stays as it was restored.
        """
        self._call("restore_copies", {"backup": backup})

    def seed_users(self, count: int, prefix: str = "user", *, provisioned_prefix: str | None = None) -> list[str]:
        """Load user documents without HTTP; return the names, which are `prefix` and six digits.

        With a `provisioned_prefix` (such as `userdb-`) each has its database, secured, already.
        """
        arguments = {"count": count, "prefix": prefix, "provisioned_prefix": provisioned_prefix}
        names: list[str] = self._call("seed_users", arguments)
        return names

    def add_user(self, name: str, password: str) -> None:
        """Write one user document without HTTP."""
        self._call("add_user", {"name": name, "password": password})

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

        It reads everything from the beginning `start_seconds` after it was switched on, after each change of membership
        and after it died. `step_seconds` pass between what it reads and what it writes for a user.
        """
        arguments = {
            "on": on,
            "node": node,
            "delete_dbs": delete_dbs,
            "start_seconds": start_seconds,
            "step_seconds": step_seconds,
        }
        self._call("set_peruser", arguments)

    def open_users(self) -> None:
        """Let anybody sign up: nodes allow editing the security of `_users`, which then names no members."""
        self._call("open_users", {})

    def set_admin_password(self, password: str, *, node: int | None = None) -> None:
        """Change the server admin's password at run time, on all nodes or on one; session cookies end with the old one.

        `urls` keep the old password.
        """
        self._call("set_admin_password", {"password": password, "node": node})

    def set_lockout(self, threshold: int, seconds: float) -> None:
        """Set after how many wrong passwords an account is locked for an address, and for how long after the first."""
        self._call("set_lockout", {"threshold": threshold, "seconds": seconds})

    def clear_lockouts(self) -> None:
        """Unlock all accounts, as if the time was over."""
        self._call("clear_lockouts", {})

    def requests(self) -> dict[tuple[str, str, str], int]:
        """Return how many requests were made, by node, method and kind of path (such as `shard_changes`)."""
        counted = self._call("requests", {})
        return {(node, method, kind): count for node, method, kind, count in counted}

    def clear_requests(self) -> None:
        """Begin to count requests, creations and deletions, and to note writes, from nothing."""
        self._call("clear_requests", {})

    def writes(self) -> list[Write]:
        """Return the requests that were to make, delete or secure a database, in order, refused ones too.

        An instance talks to its own node, so the node of a write is the instance that acted.
        """
        return msgspec.convert(self._call("writes", {}), list[Write])

    def creations(self) -> dict[str, int]:
        """Return by database how many times a `PUT` on it was answered with 201 or 202."""
        counted: dict[str, int] = self._call("creations", {})
        return counted

    def deletions(self) -> dict[str, int]:
        """Return by database how many times a `DELETE` of it was answered with 200 or 202."""
        counted: dict[str, int] = self._call("deletions", {})
        return counted

    def databases(self, node: int = 1) -> list[str]:
        """Return the names of the databases that a node knows of, sorted."""
        names: list[str] = self._call("databases", {"node": node})
        return names

    def snapshot_security(self, database: str) -> dict[str, dict[str, Any]]:
        """Return the security object of every copy of a database: by node, by range."""
        objects: dict[str, dict[str, Any]] = self._call("snapshot_security", {"database": database})
        return objects

    def snapshot_copies(self, database: str) -> dict[str, dict[str, dict[str, Any]]]:
        """Return, by node and range, each copy's `uuid`, `update_seq` and `revs`, the winner by document id."""
        copies: dict[str, dict[str, dict[str, Any]]] = self._call("snapshot_copies", {"database": database})
        return copies


def encode_outcome(result: object, error: Exception | None = None) -> bytes:
    """Return the answer to a control as it goes over the control port."""
    if error is None:
        return msgspec.json.encode({"result": result})
    kind = "lookup" if isinstance(error, LookupError) else "value"
    return msgspec.json.encode({"error": kind, "message": str(error)})


def decode_outcome(body: bytes) -> Any:
    """Return a control's answer; raises what `encode_outcome` was given."""
    outcome = msgspec.json.decode(body)
    if "error" in outcome:
        raise (LookupError if outcome["error"] == "lookup" else ValueError)(outcome["message"])
    return outcome["result"]
