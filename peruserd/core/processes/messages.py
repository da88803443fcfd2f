"""The messages between supervisor and listener: one message starts a child, and typed messages follow over a pipe.

Every message is one MessagePack document. `encode` and the `decode…` functions are the whole protocol.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.audit.rounds import AuditStatus
from peruserd.core.cluster.views import Copy
from peruserd.core.common.secret import Secret
from peruserd.core.configuration.config import AuditConfig, CouchDBConfig, DatabasesConfig, DeletionConfig, LogConfig
from peruserd.core.deletions.journal import DeletionStatus
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
    """The values of the two headers that authenticate a request; either of them may be missing.

    `number` identifies the token. A cookie that the server has refreshed does not change it. `relayed` replaces
    `authorization` in requests to the paths of other nodes, if nodes do not accept each other's sessions.
    """

    number: int = 0
    authorization: Secret | None = None
    cookie: Secret | None = None
    relayed: Secret | None = None


class ListenerStart(msgspec.Struct, frozen=True):
    """All a listener needs to begin.

    - `upcoming`: the ownership that may follow (see `Assignment`).
    - `token`: None while the server does not admit the instance. The password itself never reaches a listener.
    - `state_file`: the listener's own SQLite file.
    - `share`: how many users the listener may work on at once now. `max_in_flight`: the most it can ever be allowed.
    - `resume_near`: how far the listener of the range before a split had read. It is a hint and no checkpoint.
    - `recall_seconds`: acts of this time before a change of owner are looked at again, because the next owner may have
      known better already.
    - `new_per_minute`: how many databases the listener may create in a minute; 0 is no limit.
    - `nodes`: the connected nodes of the view seen last. `cut_off`: they are no majority of the cluster's nodes.
    - `access`: the users' rights in their databases. `templates`: what else is put into these.
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
    """The view has changed. The fields are those of `ListenerStart`.

    `number` counts the messages of this kind to one listener, from 1.
    """

    number: int
    ownership: Ownership
    upcoming: Ownership | None
    share: int
    new_per_minute: int = 0
    nodes: tuple[str, ...] = ()
    cut_off: bool = False


class Reconfigure(msgspec.Struct, frozen=True, tag="reconfigure"):
    """The keys of the configuration that a listener takes over while it runs. The fields are those of `ListenerStart`.

    The rest of the configuration stays as it was at the listener's start.
    """

    deletion: DeletionConfig
    audit: AuditConfig
    log: LogConfig
    max_in_flight: int
    recall_seconds: float


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop fetching, finish the work in flight within the given time, save the checkpoint, exit 0.

    `leaving` says that this instance has lost the whole copy. Then its recent acts are reviewed before the end.
    """

    within_seconds: float
    leaving: bool = False


class TakeOverDoubts(msgspec.Struct, frozen=True, tag="inherit"):
    """The names of the state files in use. This listener takes over the documents in doubt of all others there."""

    in_use: tuple[str, ...]


class Reauthenticate(msgspec.Struct, frozen=True, tag="reauthenticate"):
    """The token for all requests from now on. Without a token requests must wait.

    `why` says in words why there is no token, or why the token could not be checked. `answers` is the number of this
    listener's newest `CheckToken` that was handled.
    """

    token: Token | None
    why: str | None = None
    answers: int = 0


class Look(msgspec.Struct, frozen=True, tag="look"):
    """Look at these user documents, for a reason without a row.

    `number` grows from message to message. A report says up to which number all looks are done. `made` says that the
    only news is the creation of the databases. The listener that created them ignores it.
    """

    number: int
    lane: Lane
    document_ids: tuple[str, ...]
    made: bool = False


class LookAtAll(msgspec.Struct, frozen=True, tag="look at all"):
    """Look at every user of the range, because single looks were too many. It is done after a scan of the range.

    `request` identifies the message, also after a restart. The listener saves it with the scan that answers it.
    """

    number: int
    request: str


class CompareNames(msgspec.Struct, frozen=True, tag="compare"):
    """Find users with a missing or newly created database. The message is done once the listener has saved it."""

    number: int


class JournalNews(msgspec.Struct, frozen=True, tag="journal"):
    """News of the journal of deletions.

    `spoken_of` are the ids of entries with a changed word of the operator. The journal is not `usable` while it cannot
    be read, or while others than server admins could write to it. Nothing may be dropped then.
    """

    usable: bool
    spoken_of: tuple[str, ...] = ()
    pause_changed: bool = False


# Listener → supervisor


class Stage(StrEnum):
    """The stage of a listener."""

    CONNECTING = "connecting"  # no answer from its copy yet, or no longer
    SCANNING = "scanning"  # live, and reading the range from the start beside it
    FOLLOWING = "following"  # live


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The listener is up and has opened its state."""


class Usage(msgspec.Struct, frozen=True):
    """The resources of a process: processor time, resident memory, open descriptors and their limit, threads."""

    cpu_seconds: float
    resident_bytes: int
    descriptors: int
    threads: int
    descriptor_limit: int | None = None


class Report(msgspec.Struct, frozen=True, tag="report"):
    """The state of a listener. A report without a new round of the feed loop, in `rounds`, is no sign of life.

    - `usage`: None if the listener cannot measure it.
    - `informed`: the number of the newest `Inform` that was received; 0 before the first one.
    - `looked`: the number up to which every `Look` is done. `looked_at_all`: the same for `LookAtAll`.
    - `on_hold`: why no work is given out; None while work is given out.
    - `hold_kind`: on hold, the kind of the failure that the hold began with, or "state" if the state cannot be written.
    - `permanent`: how many users in quarantine will not be served without somebody's action.
    - `kinds`: how many users are in quarantine, by the kind of their failure.
    - `oldest_kept_since`: the first failure of the user who has been there longest, by the wall clock.
    - `oldest_waiting_since`: when the oldest live change was read that is neither finished nor in quarantine. Changes
      of users who change too often do not count.
    - `read_at`: when the live feed was last read. This time and the last one are of the monotonic clock, which all
      processes of a machine share. So the time that has passed can be told without another report.
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
    deletions: DeletionStatus = DeletionStatus()
    informed: int = 0
    on_hold: str | None = None
    permanent: int = 0
    looked: int = 0
    looked_at_all: int = 0
    audit: AuditStatus = AuditStatus()
    kinds: dict[str, int] = {}
    oldest_kept_since: float | None = None
    oldest_waiting_since: float | None = None
    read_at: float | None = None
    hold_kind: str | None = None

    @property
    def is_reading(self) -> bool:
        """Say whether the copy could be read."""
        return self.stage is not Stage.CONNECTING


class CheckToken(msgspec.Struct, frozen=True, tag="check token"):
    """An answer makes the listener doubt its token. The supervisor checks it, and answers with `Reauthenticate`.

    `number` counts these messages of one process, from 1. `node` is the other node that the request was for, if any.
    """

    number: int
    node: str | None = None


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """The last message before an orderly end, with the reason in words."""

    reason: str


ToListener = (
    Inform
    | Reconfigure
    | Stop
    | TakeOverDoubts
    | Look
    | LookAtAll
    | CompareNames
    | Reauthenticate
    | JournalNews
    | Inquiry
)
FromListener = Hello | Report | CheckToken | Goodbye | InquiryPage

_ENCODER: Final = msgspec.msgpack.Encoder()
_TO_LISTENER: Final = msgspec.msgpack.Decoder(ToListener)
_FROM_LISTENER: Final = msgspec.msgpack.Decoder(FromListener)
_START: Final = msgspec.msgpack.Decoder(ListenerStart)

encode = _ENCODER.encode
decode_to_listener = _TO_LISTENER.decode
decode_from_listener = _FROM_LISTENER.decode
decode_start = _START.decode
