"""The facts about one user that `core.users.decision` decides from."""

from enum import Enum

import msgspec

from peruserd.core.configuration.config import DeletionPolicy, OnReturn, WhenDeleted
from peruserd.core.users.contents import Contents
from peruserd.core.users.evidence import DocumentState, Verdict
from peruserd.core.users.security import AS_COUCH_PERUSER, SHUT, Access, Security


class Hint(Enum):
    """The claim that the reason to look makes about the user document."""

    LIVE = "live"
    DELETED = "deleted"
    CONTESTED = "contested"  # rows that contradict each other, or nothing at all


class Database(Enum):
    """The user's database, as far as it is known."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    CREATED = "created"  # by this act, as a majority of the nodes knows
    ACCEPTED = "accepted"  # by this act, as a minority knows; the others catch up later
    THERE = "there"  # it was there before


class CopyReading(msgspec.Struct, frozen=True):
    """The security object of one copy of a database; `security` is None where the copy could not be read.

    `path` is where the copy is read and written; it means nothing here. A copy is `lost` where its node answers that it
    has no file of it, although the shard map names it. It holds nothing then.
    """

    node: str
    security: Security | None
    path: str = ""
    lost: bool = False


class Facts(msgspec.Struct, frozen=True):
    """All that is known of a user during one act.

    `glance` is the security object as a clustered read shows it, which is that of one copy. `copies` are all copies, as
    read since the last write. `in_doubt` says that a security object was begun to be written and not seen to be whole,
    by an earlier act or an earlier process. `written` is how often this act has written already. `admitted` says
    whether the operator lets a user in whose database was nobody's; None where nobody was asked. `deleted_by_others`
    says whether somebody else deleted the database that is not there; None where that is not known. `notes_ends` says
    that it is noted where the database of a deleted user is gone. `access` are the
    rights by the configuration, and `rollout` says that a database that was there before is to get exactly these.

    `templated` says that templates put documents or options into databases, and `contents` is what was found of them,
    None where nobody looked. `overwrite` says that a rollout undoes what the user did to them. `furnished` is how often
    this act has written them, and `refusals` are the words in which the database refused some. `connected` are the
    nodes that are connected now: a copy there is waited for.
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
    furnished: int = 0
    refusals: str = ""
    connected: frozenset[str] = frozenset()

    def confirmed(self, document: Verdict) -> "Facts":
        """Return the facts with the document as it was confirmed to be.

        Copies that were read before it are to be read again. Somebody may have been writing them at that moment, and a
        write that follows from them would undo it.
        """
        return msgspec.structs.replace(self, document=document, copies=None)

    @property
    def state(self) -> DocumentState | None:
        """Return what the document was confirmed to be; None where it was not asked."""
        return None if self.document is None else self.document.state

    @property
    def holds(self) -> bool:
        """Say whether a user who comes back waits for the operator."""
        return self.on_return is OnReturn.HOLD

    @property
    def lost(self) -> tuple[str, ...]:
        """Return the nodes whose copy has no file, sorted: a write makes it again, as it makes a new database's.

        None while another copy cannot be read, because that one may hold what the lost one has held. And none once this
        act has written, because a second write would not make what the first one has not.
        """
        copies = self.copies or ()
        if self.written or any(each.security is None and not each.lost for each in copies):
            return ()
        return tuple(sorted({each.node for each in copies if each.lost}))

    @property
    def readable(self) -> tuple[Security, ...]:
        """Return the security objects of the copies that could be read; one that is lost is a new one's."""
        found = tuple(each.security for each in self.copies or () if each.security is not None)
        return (*found, *(SHUT for each in self.copies or () if each.lost)) if self.lost else found

    @property
    def has_majority(self) -> bool:
        """Say whether more than half of the copies could be read."""
        return 2 * len(self.readable) > len(self.copies or ())

    @property
    def silent(self) -> tuple[str, ...]:
        """Return the nodes whose copy could not be read, sorted."""
        if self.lost:
            return ()
        return tuple(sorted({each.node for each in self.copies or () if each.security is None}))

    @property
    def unread(self) -> tuple[str, ...]:
        """Return the nodes whose copy could not be read although they are connected, sorted.

        CouchDB makes the copy of a node that was away some seconds after its return, with an object of its own.
        """
        answered = self.connected.union(each.node for each in self.copies or () if each.lost)
        return tuple(each for each in self.silent if each in answered)
