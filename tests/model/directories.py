"""A node's list of databases in the model, and an instance that follows it and requests looks of its listeners."""

import itertools
from collections.abc import Callable, Iterable

from peruserd.core.cluster.directory import Mark, News
from peruserd.core.cluster.views import Copy, Plan
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.progress import Identity
from peruserd.core.feed.rows import Leaf, Page, Row
from peruserd.core.processes.open_looks import Message
from peruserd.core.processes.outbox import Outbox
from peruserd.couch.errors import CouchError, UnreachableError
from peruserd.simcluster.model.nodes import Node
from peruserd.supervisor.directory_reader import DirectoryReader
from tests.model.foes import PREFIX

PAGE = 3

_INCARNATIONS = itertools.count()

Tell = Callable[[Copy, Message], None]


class ModelDirectory:
    """A node's list of databases, read at once."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def identify(self) -> Identity:
        self._reach()
        return Identity(self._node.directory.uuid, self._node.directory.update_seq)

    def poll(self, since: int | str) -> Page:
        self._reach()
        assert isinstance(since, int)
        rows = self._rows(since, PAGE)
        return Page(rows, rows[-1].seq if rows else since)

    def newest(self) -> Row | None:
        self._reach()
        return next(reversed(self._rows(0, len(self._node.directory.docs))), None)

    def has(self, row: Row) -> bool:
        self._reach()
        known = self._node.map_revisions.get(row.id, set())
        return row.rev in known

    def _rows(self, since: int, limit: int) -> list[Row]:
        return [
            Row(seq, name, leaves[0].deleted, (Leaf(leaves[0].rev),))
            for seq, name, leaves in self._node.directory.rows(since, limit)
        ]

    def _reach(self) -> None:
        if not self._node.alive:
            raise UnreachableError(f"{self._node.name} is down")


class Following:
    """The directory watch of an instance and the open looks, with a method for each step.

    `tell` gives a running listener its requests. `kept` is the place on disk.
    """

    def __init__(self, node: Node, kept: Mark | None, tell: Tell) -> None:
        self._directory = ModelDirectory(node)
        self._tell = tell
        self._outbox = Outbox(str(next(_INCARNATIONS)))
        self._reader = DirectoryReader(kept, on_change={}, prefix=PREFIX, looks=self)
        self._mark: Mark | None = None
        self._up: set[Copy] = set()

    # The watch

    def read(self) -> bool:
        """Read what is new in the list; say whether anything was."""
        before = self._mark
        try:
            if self._mark is None:
                self._mark = self._reader.begin(self._directory)
            else:
                self._mark = self._reader.read_on(self._directory, self._mark)
        except CouchError:
            self._mark = None
            return False
        return self._mark != before

    def on_news(self, news: News, mark: Mark) -> None:
        """Look at users with news of their databases, as the supervisor's loop does."""
        with_news = self._outbox.number
        self._outbox.ask(Lane.OTHERS, news.changed)
        self._outbox.ask(Lane.OTHERS, news.made, made=True)
        self._outbox.mark(mark)
        self._pass_on(with_news)

    def compare_names(self) -> None:
        """Compare the names of all users' databases."""
        before = self._outbox.number
        self._outbox.compare_names()
        self._pass_on(before)

    @property
    def seen_to(self) -> Mark | None:
        """Return the newest mark up to which all is done."""
        return self._outbox.seen_to

    # An operator

    def look(self, document_ids: Iterable[str], lane: Lane) -> None:
        """Look at these users."""
        before = self._outbox.number
        self._outbox.ask(lane, document_ids)
        self._pass_on(before)

    # The fleet

    def adjust(self, plan: Plan) -> None:
        """Go by another plan."""
        before = self._outbox.number
        self._outbox.follow([each.copy for each in plan.assignments], plan.unreadable)
        self._pass_on(before)

    def greet(self, copy: Copy) -> None:
        """Send all open requests to a listener that has come up."""
        self._up.add(copy)
        for message in self._outbox.messages(copy):
            self._tell(copy, message)

    def end(self, copy: Copy) -> None:
        """Note that the listener of a copy has ended or is leaving."""
        self._up.discard(copy)

    def receive(self, copy: Copy, looked: int, looked_at_all: int) -> None:
        """Take in the number of the latest finished look of a listener, and of its latest look at everybody."""
        self._outbox.acknowledge(copy, looked, looked_at_all)

    def _pass_on(self, after: int) -> None:
        for copy in sorted(self._up):
            for message in self._outbox.messages(copy, after):
                self._tell(copy, message)
