"""Peruserd's own database on the cluster: this module makes it, marks it, and keeps it closed to all but server admins.

`core.cluster.cluster_database` decides. This module reads the facts and carries the decisions out. The database may be
used only while `state` says so.
"""

import threading
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog

from peruserd.core.cluster.cluster_database import (
    ADMINS_ONLY,
    MARKER,
    MARKER_ID,
    CopyState,
    Create,
    Known,
    Ready,
    Refuse,
    Secure,
    Step,
    Wait,
    WriteMarker,
    copies_wanted,
    holds_marker,
    next_step,
)
from peruserd.core.cluster.lease_documents import MAX_LEASES
from peruserd.core.cluster.views import Copy
from peruserd.core.configuration.config import DatabasesConfig
from peruserd.core.ownership.ranges import ShardMap
from peruserd.core.users.quarantine import Advice
from peruserd.couch.client import Client, Creation
from peruserd.couch.deletions import DeletionJournal
from peruserd.couch.errors import (
    CouchError,
    InterruptedRequestError,
    RefusedError,
    RejectedError,
    UnexpectedAnswerError,
)
from peruserd.couch.journal import Journal

# The pause before the next check of every copy. It starts anew after a fault, and doubles after each check without one.
# The limit is lower while a copy does not answer although its node is connected.
_FIRST_SECONDS: Final = 2.0
MAX_SECONDS: Final = 600.0
_MAX_SECONDS_UNANSWERED: Final = 60.0

# To make the database takes three steps; each may be repeated once, if another instance does the same.
_MAX_STEPS: Final = 6

_REPLICATOR: Final = "_replicator"


CLOSED_UNCLEARED: Final[dict[str, Any]] = {**ADMINS_ONLY, "peruserd": "closed, but not cleared yet"}
"""The security object of a database that was open, until everything written meanwhile is cleared.

It differs from the final security object. So if this process ends in between, the next check goes on from here.
"""

log = structlog.get_logger(__name__)


class ForeignDatabaseError(CouchError):
    """The database with the configured name belongs to somebody else."""

    kind = "foreign_database"
    advice = Advice.ASK_OPERATOR


class Surroundings(msgspec.Struct, frozen=True):
    """The cluster as it was read: the node that is asked, the connected nodes and the cluster's members."""

    node: str
    connected: tuple[str, ...]
    members: tuple[str, ...]
    auth_db_exists: bool


class DatabaseState(msgspec.Struct, frozen=True):
    """The state of the database.

    - `usable`: it is ours, a copy answers, and each such copy is closed to all but server admins; else `why` has a
      reason.
    - `refused`: the database is somebody else's.
    - `live`: connected nodes whose copies answered; `hosts`: nodes with a copy; `expected`: the wanted number.
    """

    usable: bool = False
    refused: bool = False
    to_be_made: bool = False  # by the first instance that runs
    why: str = "not looked at yet"
    live: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    expected: int = 0


class ClusterDatabase:
    """The database `name`, as one instance or command sees it.

    One thread calls `check`; any thread may use `state` and `check_soon`. Without `mend` nothing is written.
    """

    def __init__(self, client: Client, name: str, *, mend: bool) -> None:
        self.name = name
        self._client = client
        self._mend = mend
        self._state = DatabaseState()
        self._logged: tuple[bool, str] | None = None
        self._connected: frozenset[str] = frozenset()
        self._pause = _FIRST_SECONDS
        self._due_at = 0.0
        # The faults of copies whose nodes are connected, by node, so that each is logged once.
        self._faults: dict[str, str] = {}
        self._check_wanted = threading.Event()
        self.was_usable = False

    @property
    def state(self) -> DatabaseState:
        """Return the state of the last check."""
        return self._state

    def check_soon(self) -> None:
        """Make the next `check` check every copy, because the shard map was written or an answer was strange."""
        self._check_wanted.set()

    def check(self, seen: Surroundings, now: float) -> DatabaseState:
        """Check the database if that is due, and return its state; raises CouchError.

        Every copy is checked while the database is not usable, after `check_soon`, from time to time, and when a node
        has returned: a copy that was away can have another security object. `now` is of a monotonic clock, in seconds.
        """
        connected = frozenset(seen.connected)
        returned = connected - self._connected
        if returned or self._check_wanted.is_set() or now >= self._due_at or not self._state.usable:
            self._check_wanted.clear()
            # A check that failed does not count, neither for a returned node nor for a suspicion.
            try:
                self.ensure(seen)
            except CouchError:
                self._check_wanted.set()
                raise
            self._due_at = now + self._pause
            self._pause = min(2 * self._pause, _MAX_SECONDS_UNANSWERED if self._faults else MAX_SECONDS)
        else:
            live = tuple(node for node in self._state.live if node in connected)
            self._conclude(msgspec.structs.replace(self._state, live=live, expected=_expected(seen)), Ready())
        self._connected = connected
        return self._state

    def ensure(self, seen: Surroundings) -> DatabaseState:
        """Make, mark and secure the database as far as that is possible now, and return its state.

        Only the next reading proves a write. Raises CouchError if the attached node does not answer.
        """
        for _ in range(_MAX_STEPS):
            known = self._look(seen)
            step = next_step(known)
            self._take(known, step, seen)
            if not self._mend or isinstance(step, Wait | Refuse | Ready):
                break
            self._pause = _FIRST_SECONDS
            self._carry_out(step, known)
        return self._state

    # Reading

    def _look(self, seen: Surroundings) -> Known:
        shard_map = self._client.shard_map(seen.node, self.name)
        known = Known(
            database=self.name,
            connected=frozenset(seen.connected),
            members=frozenset(seen.members),
            auth_db_exists=seen.auth_db_exists,
        )
        if shard_map is None:
            if not seen.auth_db_exists:
                return known
            setup, replicator = self._client.setup_state(), self._client.database_exists(_REPLICATOR)
            # A connected node that is no member may know databases of another cluster.
            others = set(seen.connected).intersection(seen.members).difference({seen.node})
            known_by = tuple(sorted(filter(self._is_known_by, others)))
            known = msgspec.structs.replace(known, setup=setup, has_replicator=replicator, known_by=known_by)
            # Another instance may have made it between the two requests.
            shard_map = self._client.shard_map(seen.node, self.name) if known_by else None
        if shard_map is None:
            return known
        hosts = {
            node
            for covered, nodes in shard_map.hosts.items()
            if holds_marker(covered.begin, covered.end)
            for node in nodes
        }
        copies = tuple(self._copies(shard_map, seen))
        return msgspec.structs.replace(known, hosts=tuple(sorted(hosts)), copies=copies)

    def _is_known_by(self, node: str) -> bool:
        try:
            return self._client.shard_map(node, self.name) is not None
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError:
            # A silent node tells nothing. Without a majority of the nodes nothing is made anyway.
            return False

    def _copies(self, shard_map: ShardMap, seen: Surroundings) -> Iterable[CopyState]:
        before, self._faults = self._faults, {}
        hosts = {node for nodes in shard_map.hosts.values() for node in nodes}
        agreeing = {node for node in hosts.intersection(seen.connected) if self._goes_by(shard_map, node, seen)}
        for covered, nodes in shard_map.hosts.items():
            for node in agreeing.intersection(nodes):
                copy = Copy(self.name, covered, node, shard_map.suffix)
                if (state := self._copy_state(copy)) is not None:
                    yield state
        for node, fault in self._faults.items():
            if before.get(node) != fault:
                log.info("copy of the cluster database does not take part", node=node, why=fault)

    def _goes_by(self, shard_map: ShardMap, node: str, seen: Surroundings) -> bool:
        """Say whether a node has the same database by its shard map: of two made at once, CouchDB keeps one."""
        if node == seen.node:
            return True
        try:
            theirs = self._client.shard_map(node, self.name)
        except CouchError as error:
            self._unanswered(node, error)
            return False
        if theirs is not None and theirs.suffix == shard_map.suffix:
            return True
        self._faults[node] = "its node goes by another shard map"
        return False

    def _copy_state(self, copy: Copy) -> CopyState | None:
        holds = holds_marker(copy.range.begin, copy.range.end)
        try:
            marker = self._client.copy_document(copy, MARKER_ID) if holds else None
            untouched = marker is None and self._client.copy_is_untouched(copy)
            if holds and marker is None and not untouched:
                # Another instance may have written it between the two requests.
                marker = self._client.copy_document(copy, MARKER_ID)
            return CopyState(copy.node, self._client.copy_security(copy), holds, marker, untouched)
        except CouchError as error:
            self._unanswered(copy.node, error)
            return None

    def _unanswered(self, node: str, error: CouchError) -> None:
        # An interruption or a refused instance concerns every request, and not this copy.
        if isinstance(error, InterruptedRequestError | RefusedError):
            raise error
        self._faults[node] = str(error)

    # Acting

    def _take(self, known: Known, step: Step, seen: Surroundings) -> None:
        live = tuple(sorted({each.node for each in known.copies}))
        self._conclude(DatabaseState(live=live, hosts=known.hosts or (), expected=_expected(seen)), step)

    def _conclude(self, facts: DatabaseState, step: Step) -> None:
        usable, why = isinstance(step, Ready), _words(self.name, step)
        if usable and not facts.live:
            usable, why = False, f"no copy of the database {self.name} answers: {', '.join(facts.hosts)}"
        refused, missing = isinstance(step, Refuse), isinstance(step, Create)
        self._state = msgspec.structs.replace(facts, usable=usable, refused=refused, to_be_made=missing, why=why)
        self.was_usable |= usable
        if self._logged != (usable, why):
            self._logged = (usable, why)
            report = log.info if usable or isinstance(step, Create | WriteMarker) else log.warning
            report("cluster database", database=self.name, usable=usable, says=why, copies=facts.live)

    def _carry_out(self, step: Step, known: Known) -> None:
        try:
            match step:
                case Create(copies):
                    self._create(copies)
                case WriteMarker():
                    written = self._client.put_document(self.name, MARKER_ID, MARKER)
                    log.info("cluster database marked", database=self.name, by_a_majority=written)
                case Secure(open_copies):
                    self._secure(open_copies, known)
        except (InterruptedRequestError, RefusedError):
            raise
        except CouchError as error:
            # The step may have succeeded in part, or another instance may have done it. The next reading shows that.
            log.warning("step for the cluster database failed", step=type(step).__name__, error=str(error))

    def _create(self, copies: int) -> None:
        try:
            made = self._client.create_database(self.name, DatabasesConfig(q=1, n=copies))
        except RejectedError as error:
            # The server's own rule for placing copies does not allow so many.
            log.warning("cluster database is made with as many copies as the server likes", error=str(error))
            made = self._client.create_database(self.name, DatabasesConfig(q=1))
        event = "cluster database made" if made is Creation.CREATED else "cluster database not made by this instance"
        log.info(event, database=self.name, copies=copies, answer=made.value)

    def _secure(self, open_copies: tuple[str, ...], known: Known) -> None:
        found: dict[str, Any] = {each.node: each.security for each in known.copies if not each.is_closed}
        was_ours = any(each.marker is not None for each in known.copies)
        report = log.error if was_ours else log.info
        report(
            "cluster database is not closed to all but server admins; closing it",
            database=self.name,
            copies=open_copies,
            found=found,
        )
        if was_ours:
            self._client.put_security(self.name, CLOSED_UNCLEARED)
            self._clear()
        self._client.put_security(self.name, ADMINS_ONLY)

    def _clear(self) -> None:
        """Remove what anybody may have written while the database was open, so that it has no effect.

        All leases are deleted; instances write theirs again. The journal stays, and an operator has to check it.
        """
        names = self._client.lease_ids(self.name)
        for name in names:
            self._client.delete_local(self.name, name)
        if len(names) > MAX_LEASES:
            raise UnexpectedAnswerError(f"{self.name}: there are more documents that look like leases")
        DeletionJournal(Journal(self._client.session, self.name)).distrust(time.time())
        log.warning(
            "leases are deleted and deletions are paused, because others could write them",
            database=self.name,
            advice="peruserd deletions list --all; peruserd deletions resume",
        )


def _expected(seen: Surroundings) -> int:
    return copies_wanted(len(seen.members))


def _words(database: str, step: Step) -> str:
    match step:
        case Wait(why) | Refuse(why):
            return why
        case Ready():
            return f"the database {database} is in order"
        case Create(copies):
            return f"the database {database} is not there yet; it is to have {copies} copies"
        case WriteMarker():
            return f"the database {database} has no marker yet"
        case Secure(open_copies):
            return f"the database {database} is open to others than server admins on {', '.join(open_copies)}"
