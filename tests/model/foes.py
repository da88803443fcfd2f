"""The other writers (a hostile user, couch_peruser, an operator), and damage to single copies.

Each writes through a node, by the simulated cluster's own rules. Any time may pass between a writer's read and its
write, so anybody can write in between.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Final

from peruserd.core.common.names import USER_DOCUMENT_PREFIX, database_name, user_name
from peruserd.core.ownership.hashing import document_hash
from peruserd.simcluster.events.damage import Damage
from peruserd.simcluster.model import documents, ids
from peruserd.simcluster.model.errors import RefusalError
from peruserd.simcluster.model.nodes import Node
from peruserd.simcluster.model.revisions import Revision
from tests.model.witness import AUTH_DB, BLANK, ObservedCluster

PREFIX: Final = "userdb-"
PARTNERS: Final = ("partner", "colleague")

GENERATIONS: Final = (1, 2, 7, 999_999)

Names = Callable[[list[str], str], list[str]]


def odd_ids(document_id: str) -> list[str]:
    """Return ids that CouchDB shows as this one: each letter of the name is itself or overlong UTF-8."""
    name = user_name(document_id) or ""
    forms = [(letter, _overlong(letter)) for letter in name]
    spelled = ["".join(some) for some in itertools.product(*forms)]
    return [USER_DOCUMENT_PREFIX + each for each in spelled if each != name]


def _overlong(letter: str) -> str:
    code = ord(letter)
    return bytes((0xE0, 0x80 | code >> 6, 0x80 | code & 0x3F)).decode(errors="surrogateescape")


class HostileUser:
    """Signs up and deletes under ids that CouchDB shows as another user's, and writes revisions like a replicator."""

    def __init__(self, model: ObservedCluster) -> None:
        self._model = model

    def write(self, document_id: str, at: Node, *, deleted: bool) -> None:
        """Write a document as anybody does; a refused write has no effect."""
        try:
            leaves = documents.read(self._model, at, AUTH_DB, document_id)
            is_gone = leaves is None or leaves[0].deleted
            if deleted and is_gone:
                return
            rev = None if leaves is None or is_gone else leaves[0].rev
            body = {"at": self._model.clock()}
            documents.write(self._model, at, AUTH_DB, document_id, rev, body, deleted=deleted)
        except RefusalError:
            return
        self._note(document_id, deleted=deleted)

    def graft(self, *, document_id: str, at: Node, generation: int, tag: str, deleted: bool, extends: bool) -> None:
        """Write a revision as with `new_edits=false`: with any number, and with or without the winner as its parent.

        The same number and tag can be written as live and as deleted on different nodes.
        """
        try:
            leaves = documents.read(self._model, at, AUTH_DB, document_id)
            parent = leaves[0] if leaves and extends else None
            number = parent.generation + generation if parent else generation
            ancestors = (parent.rev, *parent.ancestors) if parent else ()
            rev = f"{number}-{tag}{len(ancestors)}"
            made = Revision(rev, number, deleted, {}, ancestors)
            target = documents._writable(self._model, at, AUTH_DB, ids.place(document_id))[0]
        except RefusalError:
            return
        target.merge(document_id, (made,))
        self._model.spread(AUTH_DB, document_id, target)
        self._note(document_id, deleted=deleted)

    def _note(self, document_id: str, *, deleted: bool) -> None:
        if ids.shown(document_id) != document_id:
            return
        if deleted:
            self._model.witness.user_deleted(document_id)
        else:
            self._model.witness.ever_live.add(document_id)


class Task:
    """A writer's work, one request at a time; it stops for good at the first refusal."""

    def __init__(self, node: Node, steps: Iterator[None]) -> None:
        self.finished = False
        self._node = node
        self._steps = steps

    def step(self) -> None:
        """Make the next request."""
        if not self._node.alive:
            self.finished = True
            return
        try:
            next(self._steps)
        except (StopIteration, RefusalError):
            self.finished = True


class Writers:
    """All other writers of security objects besides peruserd, each with its earlier reads."""

    def __init__(self, model: ObservedCluster) -> None:
        self._model = model
        self.tasks: list[Task] = []

    def step(self, index: int) -> None:
        """Let one of them make its next request."""
        if not self.tasks:
            return
        task = self.tasks[index % len(self.tasks)]
        task.step()
        if task.finished:
            self.tasks.remove(task)

    def see(self, node: Node, document_id: str) -> None:
        """Let couch_peruser see a row on a node's copy, and begin to act on it."""
        copy = node.holding(AUTH_DB, document_hash(document_id))
        leaves = copy.leaves(document_id) if copy else None
        if leaves is not None:
            act = self._take_out if leaves[0].deleted else self._let_in
            self.tasks.append(Task(node, act(node, user_name(document_id) or "")))

    def see_odd(self, node: Node, document_id: str) -> None:
        """Let couch_peruser see an odd row. It uses the id's own bytes, so it makes a database without a user."""
        raw = (user_name(document_id) or "").encode(errors="surrogateescape")
        self.tasks.append(Task(node, self._make(node, PREFIX + raw.hex())))

    def share(self, node: Node, document_id: str, partner: str, kind: int) -> None:
        """Let an operator give a partner access to a user's database, or write another security object."""
        self.tasks.append(
            Task(node, self._share(node, database_name(PREFIX, user_name(document_id) or ""), partner, kind))
        )

    def _let_in(self, node: Node, user: str) -> Iterator[None]:
        database = database_name(PREFIX, user)
        yield from self._make(node, database)
        found = documents.read_security(self._model, node, database)
        yield
        wanted = _with_names(found, user, lambda names, name: names if name in names else [*names, name])
        if wanted != found:
            self._write(node, database, wanted)

    def _take_out(self, node: Node, user: str) -> Iterator[None]:
        database = database_name(PREFIX, user)
        found = documents.read_security(self._model, node, database)
        yield
        wanted = _with_names(found, user, lambda names, name: [each for each in names if each != name])
        if wanted != found:
            self._write(node, database, wanted)

    def _make(self, node: Node, database: str) -> Iterator[None]:
        if node.database(database) is None:
            self._model.create_database(node, database, q=1, n=len(self._model.nodes))
            self._model.witness.others_make(database)
        yield

    def _share(self, node: Node, database: str, partner: str, kind: int) -> Iterator[None]:
        found = documents.read_security(self._model, node, database)
        yield
        section = ("members", "admins")[kind % 2]
        content = found.get(section, {})
        match kind:
            case 0 | 1:
                wanted = {**found, section: {**content, "names": [*content.get("names", ()), partner]}}
            case 2:
                wanted = {**found, section: {**content, "roles": [*content.get("roles", ()), f"{partner}s"]}}
            case _:
                wanted = {**found, "proxy": {"for": partner}}
        self._write(node, database, wanted)

    def put(self, node: Node, database: str, wanted: dict[str, Any]) -> None:
        """Let somebody overwrite a security object at once."""
        self._write(node, database, wanted)

    def _write(self, node: Node, database: str, wanted: dict[str, Any]) -> None:
        self._model.map_of(node, database)
        self._model.witness.others_write(database, self._model.copies_of(node, database), wanted)
        documents.write_security(self._model, node, database, wanted)


class CopyDamage:
    """Damage to single copies."""

    def __init__(self, model: ObservedCluster) -> None:
        self._model = model
        self._damage = Damage(model)
        self.backups: list[Node] = []

    def blank(self, node: Node, database: str, kind: int) -> None:
        """Let a node's copy of a database lose its security object."""
        if node.holdings.get(database):
            self._model.witness.others_write(database, node.holdings[database], BLANK[kind])
            self._damage.set_security(node, database, BLANK[kind], None)

    def back_up(self, node: Node) -> None:
        """Back up a node's copies of the authentication database."""
        if node.holdings.get(AUTH_DB):
            self._damage.back_up(node, AUTH_DB)
            self.backups.append(node)

    def restore(self, number: int) -> set[str]:
        """Restore a node's copies; return the documents of which the whole cluster then has lost revisions."""
        before = self._known()
        try:
            self._damage.restore(number)
        except RefusalError:
            return set()
        after = self._known()
        return {document_id for document_id, rev in before.items() if after.get(document_id) != rev}

    def _known(self) -> dict[str, str | None]:
        known = {}
        for node in self._model.nodes:
            for copy in node.holdings.get(AUTH_DB, ()):
                for document_id in copy.docs:
                    if document_id not in known:
                        known[document_id] = self._model.witness.winner(document_id)
        return known


def _with_names(found: dict[str, Any], user: str, edit: Names) -> dict[str, Any]:
    """Return a security object as couch_peruser changes it."""
    changed = dict(found)
    for section in ("admins", "members"):
        content = found.get(section, {})
        changed[section] = {**content, "names": edit(list(content.get("names", ())), user)}
    return changed
