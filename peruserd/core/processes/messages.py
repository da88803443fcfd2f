"""The messages between supervisor and listener: one frozen message to start a child, typed ones over a pipe after.

Every message is one MessagePack document; `encode` and the two `decode…` functions are the whole protocol.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.audit.rounds import AuditStanding
from peruserd.core.cluster.views import Copy
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import AuditConfig, CouchDBConfig, DatabasesConfig, DeletionConfig, LogConfig
from peruserd.core.deletions.journal import Standing
from peruserd.core.feed.lanes import Lane
from peruserd.core.feed.rows import Sequence
from peruserd.core.ownership.ownership import Ownership
from peruserd.core.processes.counters import Counters
from peruserd.core.users.inquiries import Inquiry, InquiryPage
from peruserd.core.users.security import AS_COUCH_PERUSER, Access
from peruserd.core.users.templates import NO_TEMPLATES, Templates


class Credentials(msgspec.Struct, frozen=True):
    """The account to use at CouchDB."""

    username: str
    password: Secret


class Token(msgspec.Struct, frozen=True):
    """The values of two headers by which CouchDB knows whose a request is; either of them may be missing.

    `number` tells one token from the next; a cookie that the server has refreshed leaves it as it is. `relayed` takes
    the place of `authorization` on the paths of other nodes, where those do not take each other's sessions.
    """

    number: int = 0
    authorization: Secret | None = None
    cookie: Secret | None = None
    relayed: Secret | None = None


class ListenerStart(msgspec.Struct, frozen=True):
    """All a listener needs to begin. `state_file` is its own SQLite file.

    `upcoming` is the ownership that may follow (see `Assignment`). `share` is how many users it may work on at once
    now, `max_in_flight` how many it can ever be allowed to. `token` is None while the server does not let the instance
    in; the password itself never reaches a listener. `resume_near` is where a listener of the range that this one is a
    part of had come to: a hint and no checkpoint. An act of the last `recall_seconds` before an owner changes is looked
    at again, because the next owner may have known better already. `new_per_minute` is how many databases it may make
    in a minute (0 is no limit), `nodes` are those connected in the view seen last, `cut_off` says that they are no
    majority of the cluster's. `access` are the rights that users have in their databases, `templates` what else is put
    into these.
    """

    copy: Copy
    ownership: Ownership
    upcoming: Ownership | None
    instance: str
    couchdb: CouchDBConfig
    token: Token | None
    databases: DatabasesConfig
    deletion: DeletionConfig
    cluster_database: str
    log: LogConfig
    state_file: str
    share: int
    max_in_flight: int
    resume_near: Sequence | None
    recall_seconds: float
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()
    cut_off: bool = False
    access: Access = AS_COUCH_PERUSER
    templates: Templates = NO_TEMPLATES
    audit: AuditConfig = AuditConfig()


# Supervisor → listener


class Inform(msgspec.Struct, frozen=True, tag="inform"):
    """The view changed: who owns what from now on, who may own it soon, how much may be done, who is connected.

    `number` counts the messages of this kind to one listener, from 1.
    """

    number: int
    ownership: Ownership
    upcoming: Ownership | None
    share: int
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()
    cut_off: bool = False


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop fetching, finish what is in flight within the time given, save the checkpoint, exit 0.

    `leaving` says that this instance has lost the whole copy, so what it did last may have to be put right.
    """

    within_seconds: float
    leaving: bool = False


class TakeOverDoubts(msgspec.Struct, frozen=True, tag="inherit"):
    """State files of copies that nobody listens to any more: what was left in doubt there is the listener's now."""

    state_files: tuple[str, ...]


class Reauthenticate(msgspec.Struct, frozen=True, tag="reauthenticate"):
    """The token that requests carry from now on, or none, and then they must wait.

    `why` says in words why there is no token, or why the token could not be checked. `answers` is the number of the
    newest `CheckToken` of this listener that was looked into.
    """

    token: Token | None
    why: str | None = None
    answers: int = 0


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Look at these user documents, for one of the reasons behind which there is no row.

    `number` grows from message to message; a report says up to which one all is done. `made` says that nothing is known
    but that their databases were made: whoever made them a moment ago is told nothing new.
    """

    number: int
    lane: Lane
    document_ids: tuple[str, ...]
    made: bool = False


class LookAtAll(msgspec.Struct, frozen=True, tag="look at all"):
    """Look at every user of the range, because single looks were too many; done once the whole range was scanned.

    `request` tells this one from all others, also after a restart: a scan that answers it is on the listener's disk.
    """

    number: int
    request: str


class CompareNames(msgspec.Struct, frozen=True, tag="compare"):
    """Find users whose database is not there, or was made again; done once that is known on disk to be owed."""

    number: int


class JournalNews(msgspec.Struct, frozen=True, tag="journal"):
    """News of the journal of deletions.

    `spoken_of` are the ids of entries on which the operator's word has changed. While the journal is not `usable`,
    because it cannot be read or somebody else could write there, nothing may be dropped.
    """

    usable: bool
    spoken_of: tuple[str, ...] = ()
    pause_changed: bool = False


# Listener → supervisor


class Stage(StrEnum):
    """The work that a listener is at."""

    CONNECTING = "connecting"  # no answer from its copy yet, or none any more
    SCANNING = "scanning"  # live, and reading the range from the start beside it
    FOLLOWING = "following"  # live


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The listener is up and has opened its state."""


class Usage(msgspec.Struct, frozen=True):
    """The part of the machine that a process takes: processor time, resident memory, open descriptors, threads."""

    cpu_seconds: float
    resident_bytes: int
    descriptors: int
    threads: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """How it stands. `rounds` counts rounds of the feed loop; a report without a new round is no sign of life.

    `usage` is None where the listener cannot measure it. `informed` is the number of the newest `Inform` that the
    listener has taken in, 0 before the first one. `looked` is that of the newest `Look` up to which all is done,
    and `looked_at_all` that of the newest `LookAtAll` which is done.
    `on_hold` says why no work is given out; None where it is. `permanent` are those in quarantine whom time alone does
    not help.
    """

    rounds: int
    stage: Stage
    caught_up: bool
    checkpoint: Sequence | None
    shard_sequence: Sequence | None
    waiting: int
    in_flight: int
    quarantined: int
    counters: Counters
    usage: Usage | None = None
    deletions: Standing = Standing()
    informed: int = 0
    on_hold: str | None = None
    permanent: int = 0
    looked: int = 0
    looked_at_all: int = 0
    audit: AuditStanding = AuditStanding()

    @property
    def is_reading(self) -> bool:
        """Say whether the copy could be read."""
        return self.stage is not Stage.CONNECTING


class CheckToken(msgspec.Struct, frozen=True, tag="check token"):
    """An answer makes this listener doubt its token; the supervisor alone finds out, and says `Reauthenticate`.

    `number` counts the doubts of one process, from 1. `node` is the other node that the request was for, if it was.
    """

    number: int
    node: str | None = None


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """The last message of an orderly end, with the reason in words."""

    reason: str


ToListener = Inform | Stop | TakeOverDoubts | Look | LookAtAll | CompareNames | Reauthenticate | JournalNews | Inquiry
FromListener = Hello | Report | CheckToken | Goodbye | InquiryPage

_ENCODER: Final = msgspec.msgpack.Encoder()
_TO_LISTENER: Final = msgspec.msgpack.Decoder(ToListener)
_FROM_LISTENER: Final = msgspec.msgpack.Decoder(FromListener)
_START: Final = msgspec.msgpack.Decoder(ListenerStart)

encode = _ENCODER.encode
decode_to_listener = _TO_LISTENER.decode
decode_from_listener = _FROM_LISTENER.decode
decode_start = _START.decode
