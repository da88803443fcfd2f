"""The facts about one user. `core.users.decision` decides from them."""

from enum import Enum

import msgspec

from peruserd.core.common.majority import is_majority
from peruserd.core.configuration.choices import DeletionPolicy, OnReturn, WhenDeleted
from peruserd.core.users.contents import Contents
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.security import AS_COUCH_PERUSER, CLOSED, Access, Security


class Hint(Enum):
    """The claim that the reason to look makes about the user document."""

    LIVE = "live"
    DELETED = "deleted"
    CONTESTED = "contested"  # the rows contradict each other, or there is no row


class Database(Enum):
    """The user's database, as far as it is known."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    CREATED = "created"  # by this act, and a majority of the nodes has it
    ACCEPTED = "accepted"  # by this act, but only a minority has it; the others catch up later
    THERE = "there"  # it was there before


class CopyReading(msgspec.Struct, frozen=True):
    """The security object of one copy of a database. `security` is None if the copy could not be read.

    `path` says where the caller reads and writes the copy; `core` does not use it. A copy is `lost` if its node answers
    that it has no file of the copy, although the shard map names it. Such a copy has no content.
    """

    node: str
    security: Security | None
    path: str = ""
    lost: bool = False


class Facts(msgspec.Struct, frozen=True):
    """All known facts about a user during one act. None always means "not known yet".

    The database and its security object:

    - `glance`: the security object as a clustered read shows it, from one copy.
    - `copies`: the security objects of all copies, as read since the last write.
    - `in_doubt`: an earlier act or process began to write the security object, and the end of that write was not seen.
    - `written`: how often this act has written the security object.
    - `access`: the configured rights. `rollout`: an existing database gets exactly these.
    - `admitted`: whether the operator gives an existing database without an owner to this user.
    - `deleted_by_others`: whether somebody else deleted the missing database.
    - `notes_ends`: the journal notes when a deleted user's database is gone.
    - `connected`: the nodes that are connected now. A copy on one of them is waited for.

    The templates:

    - `templated`: templates put documents or options into databases.
    - `contents`: the state of these documents and options in this database.
    - `overwrite`: a rollout undoes the user's own changes of them.
    - `template_writes`: how often this act has written them.
    - `refusals`: the words with which the database refused some of them.
    """

    user: str
    hint: Hint
    policy: DeletionPolicy = DeletionPolicy.REVOKE
    in_doubt: bool = False
    database: Database = Database.UNKNOWN
    document: Verdict | None = None
    glance: Security | None = None
    copies: tuple[CopyReading, ...] | None = None
    written: int = 0
    on_return: OnReturn = OnReturn.REOPEN
    admitted: bool | None = None
    when_deleted: WhenDeleted = WhenDeleted.REMAKE
    deleted_by_others: bool | None = None
    notes_ends: bool = False
    access: Access = AS_COUCH_PERUSER
    rollout: bool = False
    templated: bool = False
    contents: Contents | None = None
    overwrite: bool = False
    template_writes: int = 0
    refusals: str = ""
    connected: frozenset[str] = frozenset()

    def confirmed(self, document: Verdict) -> "Facts":
        """Return the facts with the confirmed state of the document.

        Security objects that were read earlier must be read again. Somebody may have written them meanwhile, and a
        decision from the older state would undo that write.
        """
        return msgspec.structs.replace(self, document=document, copies=None)

    @property
    def state(self) -> DocumentState | None:
        """Return the confirmed state of the document; None before it was read."""
        return None if self.document is None else self.document.state

    @property
    def holds(self) -> bool:
        """Say whether the configuration lets a returning user wait for the operator."""
        return self.on_return is OnReturn.HOLD

    @property
    def without_file(self) -> tuple[str, ...]:
        """Return the nodes whose copy has no file, sorted. A write makes such a copy again, as for a new database.

        The result is empty in two cases:

        - Another copy cannot be read, because it may hold the names that the lost copy has held.
        - This act has already written, because a second write would not make a copy that the first one has not made.
        """
        if not self.copies or self.written or any(each.security is None and not each.lost for each in self.copies):
            return ()
        return tuple(sorted({each.node for each in self.copies if each.lost}))

    @property
    def readable(self) -> tuple[Security, ...]:
        """Return the security objects of the readable copies. A lost copy counts with the object of a new one."""
        found = tuple(each.security for each in self.copies or () if each.security is not None)
        return (*found, *(CLOSED for each in self.copies or () if each.lost)) if self.without_file else found

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the copies could be read."""
        return is_majority(len(self.readable), len(self.copies or ()))

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the nodes whose copy could not be read, sorted."""
        # Most acts read no copies, and ask this several times.
        if not self.copies or self.without_file:
            return ()
        return tuple(sorted({each.node for each in self.copies if each.security is None}))

    @property
    def unread(self) -> tuple[str, ...]:
        """Return the connected nodes whose copy could not be read, sorted.

        When a node returns, CouchDB creates a missing copy there some seconds later, with the default security object.
        """
        if not (silent := self.silent):
            return ()
        answered = self.connected.union(each.node for each in self.copies or () if each.lost)
        return tuple(each for each in silent if each in answered)
