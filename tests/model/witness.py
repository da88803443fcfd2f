"""The witness of peruserd's acts: an account of all acts, and the rules that each act of peruserd must keep.

The witness sees every request of an act and every write of somebody else. It judges by all copies of a document
*together*, although no request shows them so. It shares no code with `core.users.decision` and `core.users.evidence`.

Judged at each request of an act:

- (f) A write names nobody new but the database's own user. It gives that user access in two cases only: the document
  could be live by a majority of its copies during the act, or the act has made the database.
- (g) A write takes the user's access away only where the document could be deleted by a majority of its copies during
  the act. It keeps the entries of others: names, roles and keys in all read copies with content, or in most of all
  copies. It makes no database public. A written object is read again before the act ends well.
- (h) An act makes a bounded number of `PUT`s.
- (i) With `when_deleted = "report"` no act makes a database again that somebody deleted while its user existed.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import Any, Final
from weakref import WeakKeyDictionary

from peruserd.core.common.names import database_name, decode_database_name, user_name
from peruserd.core.configuration.choices import WhenDeleted
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.feed.changes import Change
from peruserd.core.feed.lanes import Lane
from peruserd.listener.outcome import Outcome
from peruserd.simcluster.model import ids
from peruserd.simcluster.model.cluster_model import ClusterModel
from peruserd.simcluster.model.copies import ShardCopy
from peruserd.simcluster.model.revisions import Leaves, join
from peruserd.simcluster.model.security_objects import as_compared
from peruserd.simcluster.options import ClusterOptions
from tests.listener.provisioner_harness import FakeDeletionNotes
from tests.model.acts import Act, act_here

AUTH_DB: Final = "_users"

# The default objects of a server, not written by anybody.
BLANK: Final[tuple[dict[str, Any], ...]] = ({}, {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}})

_SECTIONS: Final = ("admins", "members", "readers")

# The limit is one creation and five writes of a security object; only a review looks several times.
_MAX_WRITES: Final = 6
_MAX_LOOKS: Final = 5


class ViolationError(BaseException):
    """An act broke a rule. No handler of the code under test may catch it."""


class Record:
    """The reads and writes of one act."""

    def __init__(self, change: Change, node: str) -> None:
        self.change = change
        self.node = node
        self.document_id = change.document_id
        self.user = user_name(change.document_id) or ""
        self.database = database_name(DatabasesConfig().prefix, self.user)
        self.is_review = change.lane is Lane.REVIEW
        self.could_be_live = False
        self.could_be_deleted = False
        self.has_created = False
        self.is_blind = False
        # The number of its requests, and of the last one that asked whether the database existed once.
        self.requests = 0
        self.asked_of_removal = 0
        self.knows_of_removal = False
        # The copies as read since the last write, with the moment, by node.
        self.read: dict[str, tuple[int, Any]] = {}
        self.wrote: tuple[int, tuple[str, ...]] | None = None
        self.puts = 0


class Witness:
    """Sees every change of users' databases. `moment` counts the events so far."""

    def __init__(self, model: "ObservedCluster") -> None:
        self._model = model
        # The records of acts under way, by act.
        self._records: WeakKeyDictionary[Act, Record] = WeakKeyDictionary()
        self.when_deleted = WhenDeleted.REMAKE
        self.moment = 0
        # Names that somebody other than peruserd put into a database.
        self.put_by_others: dict[str, set[str]] = {}
        # The moment of the last write of somebody else to a copy, and the moment when a completed act last saw the
        # copy. Such an act has served the user (False) or seen the user in no copy (True), and asks for no more than it
        # needs.
        self._touched: dict[tuple[str, str], int] = {}
        self._seen: dict[bool, dict[tuple[str, str], int]] = {False: {}, True: {}}
        # Databases that were made for a row without a document.
        self.made_blindly: set[str] = set()
        # Users whose document was live at any time.
        self.ever_live: set[str] = set()
        # The number of all PUTs by user, and of those with security objects.
        self.puts: Counter[str] = Counter()
        self.security_puts: Counter[str] = Counter()
        # The moments when somebody else deleted a database while its user existed; the user still exists.
        self.removed: dict[str, int] = {}
        # Databases that somebody else deleted, and that were not made again.
        self.missing: set[str] = set()
        # Databases with a security object written by others.
        self.rewritten: set[str] = set()
        # The number of acts that ended since the last reset.
        self.ended: list[tuple[Change, Outcome]] = []

    # Acts of others

    def others_make(self, database: str) -> None:
        """Note that others have made or changed a database.

        That excuses nothing, because the list of databases shows it.
        """
        self.moment += 1
        self.put_by_others.setdefault(database, set())
        self.removed.pop(database, None)
        self.missing.discard(database)

    def others_delete(self, document_id: str, database: str) -> None:
        """Note that somebody else is about to delete a database; that excuses nothing either."""
        self.moment += 1
        self.put_by_others.setdefault(database, set())
        self.missing.add(database)
        if self._possible(document_id) == {False}:
            self.removed[database] = self.moment

    def user_deleted(self, document_id: str) -> None:
        """Note that a user document was deleted: a database of this life is no loss in the next one."""
        self.removed.pop(database_name(DatabasesConfig().prefix, user_name(document_id) or ""), None)

    def others_write(self, database: str, copies: Iterable[ShardCopy], wanted: Any) -> None:
        """Note that somebody else is about to write these copies.

        The write can only excuse an act if it lets the database's own user in, or shuts the user out.
        """
        self.moment += 1
        self.put_by_others.setdefault(database, set()).update(all_names(wanted))
        user = decode_database_name(DatabasesConfig().prefix, database) or ""
        for copy in copies:
            if _sections_of(copy.security, user) != _sections_of(wanted, user):
                self._touched[database, copy.node] = self.moment

    def is_excused(self, database: str, *, deleted: bool) -> bool:
        """Say whether somebody else has touched the database, and no act for such a user has seen it since."""
        touched = [(key, at) for key, at in self._touched.items() if key[0] == database]
        return any(at > self._seen[deleted].get(key, 0) for key, at in touched)

    # Acts of peruserd

    def learns_of_removal(self, database: str, *, known: bool) -> None:
        """Note that an act has learned whether a missing database existed once."""
        record = self._own(database)
        if record is not None:
            record.asked_of_removal = record.requests
            record.knows_of_removal = known

    def requests(self) -> None:
        """Note the possible states of the document at a request of an act."""
        self.moment += 1
        record = self._record()
        if record is not None:
            record.requests += 1
            winners = self._possible(record.document_id)
            record.could_be_live |= False in winners
            record.could_be_deleted |= True in winners

    def creates(self, database: str) -> None:
        """Judge the making of a database; called for each try."""
        record = self._own(database)
        if record is not None:
            self._count(record)

    def created(self, database: str) -> None:
        """Note that a database was made."""
        record = self._own(database)
        self.missing.discard(database)
        if record is not None:
            self._judge_making(record)
            record.has_created = True
            record.is_blind = self._is_for_anothers_row(record)
            record.read.clear()

    def reads(self, database: str, node: str, security: Any) -> None:
        """Note an act's read of a copy."""
        record = self._own(database)
        if record is not None:
            record.read[node] = (self.moment, security)

    def tries_to_write(self, database: str) -> None:
        """Count a write, with any result."""
        record = self._own(database)
        if record is not None:
            self.security_puts[record.user] += 1
            self._count(record)

    def writes(self, database: str, copies: list[ShardCopy], wanted: Any) -> None:
        """Judge a write of these copies just before it is done."""
        record = self._own(database)
        if record is None:
            return
        self._judge_names(record, copies, wanted)
        self._judge_losses(record, copies, wanted)
        if not (_names(wanted, "members") or _roles(wanted, "members")) and "readers" not in wanted:
            raise ViolationError(f"public: {wanted}")
        record.wrote = (self.moment, tuple(copy.node for copy in copies))
        record.read.clear()

    def ends(self, act: Act) -> None:
        """Note that an act has come to its end."""
        record = self._records.get(act)
        assert act.outcome is not None
        self.ended.append((act.change, act.outcome))
        if record is None:
            return
        self.moment += 1
        if record.has_created and (record.is_blind or not record.could_be_live):
            # The row of a newly made database is no news.
            self.made_blindly.add(record.database)
            self.others_make(record.database)
            self._touched.update(((record.database, node.name), self.moment) for node in self._model.nodes)
        if act.outcome.failure is None and act.outcome.acted_on is not None:
            assert not record.wrote or record.read or record.has_created, f"{record.database} was not read again"
            self._see(record, self._seen[act.outcome.acted_on])

    # At rest

    def leaves_of(self, document_id: str) -> list[Leaves | None]:
        """Return the contents of each copy of a document."""
        return [copy.leaves(document_id) for copy in self._copies_of(document_id)]

    def winner(self, document_id: str) -> str | None:
        """Return the revision that wins once all copies have met."""
        known = _together(self.leaves_of(document_id))
        return known[0].rev if known else None

    def is_deleted(self, document_id: str) -> bool | None:
        """Say whether a document is deleted once all copies have met; None where it never was."""
        known = _together(self.leaves_of(document_id))
        return known[0].deleted if known else None

    def is_known_everywhere(self, document_id: str) -> bool:
        """Say whether all copies show the same of a document."""
        shown = {None if leaves is None else leaves[0].rev for leaves in self.leaves_of(document_id)}
        return len(shown) <= 1

    def is_disputed(self, document_id: str) -> bool:
        """Say whether copies have one revision in two states, which no replication ever settles."""
        states: dict[str, set[bool]] = {}
        for leaves in self.leaves_of(document_id):
            for leaf in leaves or ():
                states.setdefault(leaf.rev, set()).add(leaf.deleted)
        return any(len(each) > 1 for each in states.values())

    def disagree(self, database: str) -> bool:
        """Say whether only a person can decide which security object is right.

        That is so where copies that are not blank differ, and no majority of all copies holds one of them.
        """
        objects = [copy.security for node in self._model.nodes for copy in node.holdings.get(database, ())]
        written = [each for each in objects if each not in BLANK]
        if not written or all(each == written[0] for each in written):
            return False
        return 2 * max(written.count(each) for each in written) <= len(objects)

    def is_unrepaired(self, database: str) -> bool:
        """Say whether CouchDB leaves copies different, because somebody else has written more than two versions."""
        copies = [copy for node in self._model.nodes for copy in node.holdings.get(database, ())]
        return database in self.put_by_others and len({as_compared(each.security) for each in copies}) > 2

    # Inside

    def _record(self) -> Record | None:
        act = act_here()
        return None if act is None else self._records.setdefault(act, Record(act.change, act.node))

    def _own(self, database: str) -> Record | None:
        record = self._record()
        if record is not None and record.database != database:
            raise ViolationError(f"an act for {record.document_id} touches {database}")
        return record

    def _count(self, record: Record) -> None:
        record.puts += 1
        self.puts[record.user] += 1
        copies = len(self._model.nodes)
        if record.puts > _MAX_WRITES * copies * (_MAX_LOOKS if record.is_review else 1):
            raise ViolationError(f"one act for {record.user} has made {record.puts} PUTs")

    def _see(self, record: Record, seen: dict[tuple[str, str], int]) -> None:
        if record.wrote is not None:
            at, nodes = record.wrote
            seen.update(((record.database, node), at) for node in nodes)
        for node, (at, _) in record.read.items():
            seen[record.database, node] = at

    def _judge_making(self, record: Record) -> None:
        """With `report`, only the operator's order may make a database again that somebody deleted.

        The deletion is excused only between the act's question and the making.
        """
        change = record.change
        is_operators = change.is_of_operator or (change.lane is Lane.REVIEW and change.contested)
        if self.when_deleted is WhenDeleted.REMAKE or is_operators:
            self.removed.pop(record.database, None)
        elif record.database in self.removed and (
            record.knows_of_removal or record.asked_of_removal != record.requests - 1
        ):
            raise ViolationError(f"{record.database} is made again, which somebody has deleted")

    def _judge_names(self, record: Record, copies: list[ShardCopy], wanted: Any) -> None:
        known = [copy.security for copy in copies] + [security for _, security in record.read.values()]
        new = all_names(wanted) - {name for each in known for name in all_names(each)}
        if new - {record.user}:
            raise ViolationError(f"{record.database} names strangers: {new}")
        if new and not (record.could_be_live or record.has_created):
            raise ViolationError(f"{record.user} gets access, and the document cannot be live")

    def _judge_losses(self, record: Record, copies: list[ShardCopy], wanted: Any) -> None:
        standing = self._standing(record, copies)
        lost = standing - _content(wanted)
        own = {each for each in lost if each[0] != "key" and each[2] == record.user}
        if own and not record.could_be_deleted:
            raise ViolationError(f"{record.user} loses access, and the document cannot be deleted")
        if lost - own:
            raise ViolationError(f"{record.database} loses {lost - own}")

    def _standing(self, record: Record, copies: list[ShardCopy]) -> set[tuple[str, ...]]:
        """Return the entries that a write of these copies must keep, namely all that the act has read there.

        A change between reading and writing is lost, because CouchDB has no compare-and-swap for it.
        """
        read = {node: security for node, (_, security) in record.read.items()}
        same = [copy for copy in copies if copy.node in read and copy.security == read[copy.node]]
        if len(copies) == 1:
            return _content(copies[0].security) if same else set()
        if len(same) < len([copy for copy in copies if copy.node in read]) or record.has_created:
            return set()
        written = [_content(copy.security) for copy in same if copy.security not in BLANK]
        standing = set.intersection(*written) if written else set()
        everywhere = Counter(each for copy in copies for each in _content(copy.security))
        total = len(self._model.nodes)
        return standing | {each for each, count in everywhere.items() if 2 * count > total}

    def _possible(self, document_id: str) -> set[bool]:
        """Return the possible answers whether the document is deleted, over all majorities of its copies."""
        leaves = self.leaves_of(document_id)
        majority = len(self._model.nodes) // 2 + 1
        found = set()
        for size in range(majority, len(leaves) + 1):
            for some in combinations(leaves, size):
                known = _together(some)
                if known is not None:
                    found.add(known[0].deleted)
        return found

    def _is_for_anothers_row(self, record: Record) -> bool:
        """Say whether the copy had shown the document's own end before the row that this act is for."""
        copy = self._model.by_name[record.node].holding(AUTH_DB, ids.place(record.document_id))
        own = [] if copy is None else [each for each in copy.rows(0, 1_000) if each[1] == record.document_id]
        ended = [seq for seq, _, leaves in own if leaves[0].deleted]
        return isinstance(record.change.sequence, int) and bool(ended) and ended[0] < record.change.sequence

    def _copies_of(self, document_id: str) -> list[ShardCopy]:
        position = ids.place(document_id)
        held = (node.holding(AUTH_DB, position) for node in self._model.nodes)
        return [copy for copy in held if copy is not None]


class ObservedCluster(ClusterModel):
    """A simulated cluster with a witness."""

    def __init__(self, options: ClusterOptions, clock: Any) -> None:
        super().__init__(options, clock)
        self.witness = Witness(self)
        # The journal of deletions, which all instances share.
        self.journal = FakeDeletionNotes()


def all_names(security: Any) -> set[str]:
    """Return all names in a security object."""
    return {name for section in _SECTIONS for name in _names(security, section)}


def _together(copies: Iterable[Leaves | None]) -> Leaves | None:
    known: Leaves | None = None
    for leaves in copies:
        if leaves is not None:
            known = join(known, leaves) if known else leaves
    return known


def _sections_of(security: Any, user: str) -> set[str]:
    return {section for section in _SECTIONS if user in _names(security, section)}


def _names(security: Any, section: str) -> list[str]:
    return list(security.get(section, {}).get("names", []))


def _roles(security: Any, section: str) -> list[str]:
    return list(security.get(section, {}).get("roles", []))


def _content(security: Any) -> set[tuple[str, ...]]:
    """Return a security object as a set of single entries."""
    names = {("names", section, name) for section in _SECTIONS for name in _names(security, section)}
    roles = {("roles", section, role) for section in _SECTIONS for role in _roles(security, section)}
    # The role `_admin`, which keeps a database closed, may come and go.
    keys = {("key", key, repr(value)) for key, value in security.items() if key not in _SECTIONS}
    return names | keys | {each for each in roles if each[2] != "_admin"}
