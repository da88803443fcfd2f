"""CouchDB's built-in couch_peruser (2.1 to 3.5), a second writer on each node where it is switched on.

It follows the node's own copies of the authentication database, one user at a time, and reads them from the beginning
at every start. It starts again after a change of the configuration or the membership, and after each crash. It crashes
on a deleted user without a database, on an impossible name of a database, and on copies with different security
objects.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from struct import pack
from typing import Any, Final
from zlib import crc32

from peruserd.core.common.names import user_name
from peruserd.simcluster.change_watch import wait_for_change
from peruserd.simcluster.model import documents, errors, ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.database_names import check_database_name
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.security_objects import as_compared
from peruserd.simcluster.options import AUTH_DATABASE

SECTION: Final = "couch_peruser"

# A supervisor starts it again after a crash. Without a pause the simulated one would do nothing else.
_MIN_PAUSE_SECONDS: Final = 0.05
_ROWS: Final = 100

_Change = Callable[[str, list[Any]], list[Any]]


class Peruser:
    """The couch_peruser of all nodes. Made in any place, used in one event loop.

    `start_seconds` pass before each start. `step_seconds` pass between two steps for one user, so that other writers
    can act in between.
    """

    def __init__(self, model: ClusterModel) -> None:
        self.start_seconds = 0.0
        self.step_seconds = 0.0
        self._model = model
        self._tasks: list[asyncio.Task[None]] = []

    def refresh(self) -> None:
        """Start again on every live node whose configuration switches it on."""
        for task in self._tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        nodes = [node for node in self._model.nodes if node.alive and node.joined and _is_on(node)]
        self._tasks = [loop.create_task(self._run(node)) for node in nodes]

    async def stop(self) -> None:
        """End on all nodes."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self, node: Node) -> None:
        pause = self.start_seconds
        while True:
            await asyncio.sleep(pause)
            if node.database(AUTH_DATABASE) is None:
                # It writes into its own configuration, and stays off.
                node.config[SECTION]["enable"] = "false"
                return
            copies = list(node.holdings.get(AUTH_DATABASE, ()))
            if not copies:
                return
            await self._follow_all(node, copies)
            pause = max(self.start_seconds, _MIN_PAUSE_SECONDS)

    async def _follow_all(self, node: Node, copies: list[ShardCopy]) -> None:
        """Follow copies until it crashes on one of them."""
        tasks = [asyncio.create_task(self._follow(node, copy)) for copy in copies]
        try:
            died, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in died:
                with suppress(errors.RefusalError):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, node: Node, copy: ShardCopy) -> None:
        since = 0
        while not copy.gone:
            rows = copy.rows(since, _ROWS)
            if not rows:
                await wait_for_change([copy], None)
            for seq, document_id, leaves in rows:
                await self._handle(node, document_id, deleted=leaves[0].deleted)
                since = seq
        raise errors.no_shard()

    async def _handle(self, node: Node, document_id: str, *, deleted: bool) -> None:
        name = user_name(document_id)
        if name is None or not self._owns(node, document_id):
            return
        database = database_of(node.config[SECTION].get("database_prefix", "userdb-"), name)
        if not deleted:
            await self._ensure_database(node, database)
            await self._secure(node, database, name, _with)
        elif node.config[SECTION].get("delete_dbs") != "true":
            await self._secure(node, database, name, _without)
        elif node.database(database) is not None:
            self._model.delete_database(node, database)

    def _owns(self, node: Node, document_id: str) -> bool:
        """Say whether this node is the one of the document's hosts that acts (`mem3:owner`)."""
        document = self._model.map_of(node, AUTH_DATABASE)
        hosts = document.hosts_of(ids.place(document_id))
        connected = sorted(each.name for each in self._model.reachable(node) if each.name in hosts)
        return bool(connected) and connected[_key(document_id) % len(connected)] == node.name

    async def _ensure_database(self, node: Node, database: str) -> None:
        if node.database(database) is not None:
            return
        await asyncio.sleep(self.step_seconds)
        check_database_name(database)
        q = int(node.config[SECTION].get("q", "1"))
        try:
            self._model.create_database(node, database, q=q, n=self._model.options.n, props={})
        except errors.RefusalError as error:
            if error.error != "file_exists":
                raise

    async def _secure(self, node: Node, database: str, name: str, change: _Change) -> None:
        """Change the names in both sections, unless a majority of the copies cannot be read."""
        await asyncio.sleep(self.step_seconds)
        document = self._model.map_of(node, database)
        copies = self._model.copies_of(node, database)
        if len(copies) * 2 <= sum(map(len, document.hosts.values())):
            return
        if len({as_compared(copy.security) for copy in copies}) > 1:
            raise errors.crash("badmatch")
        security = _changed(copies[0].security, name, change)
        if security is None:
            return
        await asyncio.sleep(self.step_seconds)
        documents.write_security(self._model, node, database, security)


def database_of(prefix: str, name: str) -> str:
    """Return the name of a user's database, with one digit for a byte below 0x10, as couch_peruser writes it."""
    return prefix + "".join(f"{byte:x}" for byte in name.encode(errors="surrogateescape"))


def _is_on(node: Node) -> bool:
    return node.config[SECTION].get("enable") == "true"


def _key(document_id: str) -> int:
    """Return `crc32(term_to_binary({Database, DocumentId}))`."""
    term = b"\x83h\x02"
    for each in (AUTH_DATABASE, document_id):
        encoded = each.encode(errors="surrogateescape")
        term += pack(">cI", b"m", len(encoded)) + encoded
    return crc32(term)


def _with(name: str, names: list[Any]) -> list[Any]:
    return names if name in names else [name, *names]


def _without(name: str, names: list[Any]) -> list[Any]:
    index = names.index(name) if name in names else len(names)
    return [*names[:index], *names[index + 1 :]]


def _changed(security: dict[str, Any], name: str, change: _Change) -> dict[str, Any] | None:
    """Return the security object with other names, None where it has these names. All else and its order is kept."""
    changed = dict(security)
    for part in ("admins", "members"):
        group = changed.get(part, {})
        names = group.get("names", [])
        if (new := change(name, names)) != names:
            changed[part] = {**group, "names": new}
    return changed if changed != security else None
