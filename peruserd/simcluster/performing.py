"""The controls, carried out in the cluster's own loop. `ControlFace` tells the meaning of each."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from peruserd.simcluster import errors, ids, seeding, splitting
from peruserd.simcluster.controls import encode_outcome
from peruserd.simcluster.faults import Delay, Fault
from peruserd.simcluster.peruser import SECTION

if TYPE_CHECKING:
    from peruserd.simcluster.cluster import SimCluster


class Controls:
    """Carries out controls by name, for the thread and for the control port."""

    def __init__(self, cluster: "SimCluster") -> None:
        self._cluster = cluster
        methods = (
            self._describe,
            self._stop_node,
            self._start_node,
            self._partition,
            self._heal,
            self._join_node,
            self._leave_node,
            self._maintenance,
            self._set_clock,
            self._set_delay,
            self._fail,
            self._clear_faults,
            self._split,
            self._release_splits,
            self._set_split_delay,
            self._add_copy,
            self._remove_copy,
            self._move_copy,
            self._set_replication_delay,
            self._replicate,
            self._rebuild_copy,
            self._pause_replication,
            self._resume_replication,
            self._set_copy_security,
            self._forget_documents,
            self._back_up_copies,
            self._restore_copies,
            self._seed_users,
            self._add_user,
            self._set_peruser,
            self._open_users,
            self._set_admin_password,
            self._set_lockout,
            self._clear_lockouts,
            self._requests,
            self._clear_requests,
            self._writes,
            self._creations,
            self._deletions,
            self._databases,
            self._snapshot_security,
            self._snapshot_copies,
        )
        self._by_name = {method.__name__.removeprefix("_"): method for method in methods}

    async def perform(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Carry out a control and return its answer as JSON values.

        LookupError where there is no such control or what it is about is not there, ValueError for wrong arguments.
        """
        method = self._by_name.get(name)
        if method is None:
            raise LookupError(f"there is no control {name!r}")
        try:
            return await method(**arguments)
        except errors.RefusalError as error:
            raise LookupError(str(error)) from error
        except TypeError as error:
            raise ValueError(str(error)) from error

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve the control port: `POST /{control}` with its arguments as a JSON object."""
        try:
            arguments = msgspec.json.decode(await request.read() or b"{}")
            result = await self.perform(request.path.strip("/"), arguments)
        except (LookupError, ValueError) as error:
            return web.Response(body=encode_outcome(None, error), status=400, content_type="application/json")
        return web.Response(body=encode_outcome(result), content_type="application/json")

    async def _describe(self) -> dict[str, Any]:
        return {"urls": self._cluster.urls, "node_names": [node.name for node in self._cluster.model.nodes]}

    async def _stop_node(self, node: int) -> None:
        stopped = self._cluster.model.node(node)
        if stopped.alive:
            self._cluster.model.set_alive(stopped, alive=False)
            self._cluster.peruser.refresh()
            await self._cluster.servers[node - 1].listener.close()

    async def _start_node(self, node: int) -> None:
        started = self._cluster.model.node(node)
        if not started.alive:
            await self._cluster.servers[node - 1].listener.open()
            self._cluster.model.set_alive(started, alive=True)
            started.directory.started += 1
            self._cluster.peruser.refresh()
            self._cluster.schedule_splits()

    async def _partition(self, groups: list[list[int]]) -> None:
        for number in (number for group in groups for number in group):
            self._cluster.model.node(number)
        self._cluster.model.partition(groups)
        self._cluster.peruser.refresh()

    async def _heal(self) -> None:
        self._cluster.model.partition([])
        self._cluster.peruser.refresh()

    async def _join_node(self, node: int) -> None:
        self._cluster.model.set_joined(self._cluster.model.node(node), joined=True)
        self._cluster.peruser.refresh()

    async def _leave_node(self, node: int) -> None:
        self._cluster.model.set_joined(self._cluster.model.node(node), joined=False)
        self._cluster.peruser.refresh()

    async def _maintenance(self, node: int, *, on: bool) -> None:
        self._cluster.model.node(node).config["couchdb"]["maintenance_mode"] = "true" if on else "false"

    async def _set_clock(self, node: int, seconds: float) -> None:
        self._cluster.model.node(node).clock_offset_seconds = seconds

    async def _set_delay(self, node: int, seconds: float, path_regex: str | None) -> None:
        self._cluster.faults.delay(self._cluster.model.node(node).name, Delay(seconds, _pattern(path_regex)))

    async def _fail(
        self,
        node: int,
        outcome: int | str,
        count: int | None,
        probability: float,
        path_regex: str | None,
        method: str | None,
    ) -> None:
        name = self._cluster.model.node(node).name
        self._cluster.faults.add(Fault(name, outcome, count, probability, _pattern(path_regex), method))

    async def _clear_faults(self) -> None:
        self._cluster.faults.clear()
        for server in self._cluster.servers:
            server.release()

    async def _split(self, database: str, covered: str | None) -> list[str]:
        jobs = self._cluster.splitter.start(self._cluster.model.live_member(), database, covered)
        self._cluster.schedule_splits()
        return [job.id for job in jobs]

    async def _release_splits(self, nodes: list[int] | None, *, remove: bool) -> int:
        names = None if nodes is None else {self._cluster.model.node(number).name for number in nodes}
        splitter = self._cluster.splitter
        due = [job for job in splitter.waiting() if names is None or job.node in names]
        ran = [job for job in due if splitter.run(job)]
        for job in ran if remove else ():
            splitter.run(job)
        return len(ran)

    async def _set_split_delay(self, seconds: float | None) -> None:
        self._cluster.split_delay_seconds = seconds

    async def _add_copy(self, database: str, covered: str, node: int) -> None:
        self._cluster.mover.add(database, covered, self._cluster.model.node(node))

    async def _remove_copy(self, database: str, covered: str, node: int) -> None:
        self._cluster.mover.remove(database, covered, self._cluster.model.node(node))

    async def _move_copy(self, database: str, covered: str, from_node: int, to_node: int) -> None:
        source, target = self._cluster.model.node(from_node), self._cluster.model.node(to_node)
        self._cluster.mover.move(database, covered, source, target)

    async def _set_replication_delay(self, seconds: float) -> None:
        self._cluster.set_replication_delay(seconds)

    async def _replicate(self) -> None:
        self._cluster.replicate()

    async def _rebuild_copy(self, node: int, database: str, covered: str) -> None:
        splitting.rebuild(self._cluster.model, self._cluster.model.node(node), database, covered)

    async def _pause_replication(self, node: int, database: str) -> None:
        self._cluster.model.hold(self._cluster.model.node(node), database)

    async def _resume_replication(self, node: int, database: str) -> None:
        self._cluster.model.release(self._cluster.model.node(node), database)

    async def _set_copy_security(self, node: int, database: str, security: dict[str, Any], covered: str | None) -> None:
        self._cluster.damage.set_security(self._cluster.model.node(node), database, security, covered)

    async def _forget_documents(self, node: int, database: str, document_ids: list[str]) -> None:
        self._cluster.damage.forget(self._cluster.model.node(node), database, document_ids)

    async def _back_up_copies(self, node: int, database: str) -> int:
        return self._cluster.damage.back_up(self._cluster.model.node(node), database)

    async def _restore_copies(self, backup: int) -> None:
        self._cluster.damage.restore(backup)

    async def _seed_users(self, count: int, prefix: str, provisioned_prefix: str | None) -> list[str]:
        return seeding.add_users(self._cluster.model, count, prefix, provisioned_prefix)

    async def _add_user(self, name: str, password: str) -> None:
        seeding.add_user(self._cluster.model, self._cluster.model.live_member(), name, password)

    async def _set_peruser(
        self, *, on: bool, node: int | None, delete_dbs: bool, start_seconds: float, step_seconds: float
    ) -> None:
        for each in self._cluster.model.nodes if node is None else [self._cluster.model.node(node)]:
            each.config[SECTION]["enable"] = "true" if on else "false"
            each.config[SECTION]["delete_dbs"] = "true" if delete_dbs else "false"
        self._cluster.peruser.start_seconds = start_seconds
        self._cluster.peruser.step_seconds = step_seconds
        self._cluster.peruser.refresh()

    async def _open_users(self) -> None:
        seeding.open_users(self._cluster.model)

    async def _set_admin_password(self, password: str, node: int | None) -> None:
        nodes = self._cluster.model.nodes if node is None else [self._cluster.model.node(node)]
        self._cluster.accounts.set_admin(nodes, self._cluster.options.admin[0], password)

    async def _set_lockout(self, threshold: int, seconds: float) -> None:
        lockouts = self._cluster.accounts.lockouts
        lockouts.threshold, lockouts.seconds = threshold, seconds

    async def _clear_lockouts(self) -> None:
        self._cluster.accounts.lockouts.clear()

    async def _requests(self) -> list[list[Any]]:
        return [[*key, count] for key, count in sorted(self._cluster.tally.requests.items())]

    async def _clear_requests(self) -> None:
        self._cluster.tally.clear()

    async def _writes(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(each) for each in self._cluster.tally.writes]

    async def _creations(self) -> dict[str, int]:
        return dict(self._cluster.tally.created)

    async def _deletions(self) -> dict[str, int]:
        return dict(self._cluster.tally.deleted)

    async def _databases(self, node: int) -> list[str]:
        return list(self._cluster.model.node(node).names)

    async def _snapshot_security(self, database: str) -> dict[str, dict[str, Any]]:
        return {
            node.name: {str(copy.range): ids.shown_value(copy.security) for copy in node.holdings.get(database, ())}
            for node in self._cluster.model.nodes
        }

    async def _snapshot_copies(self, database: str) -> dict[str, dict[str, Any]]:
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
