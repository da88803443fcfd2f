"""An operator's questions to a listener about its quarantine, and the answers, one page at a time.

Only the listener may read its state file, so the entries travel over the pipe. The pages are small, because a listener
has up to 100,000 users in quarantine and the supervisor's loop decodes a page in one piece.
"""

from enum import StrEnum
from typing import Final

import msgspec

MAX_ON_A_PAGE: Final = 100
"""Entries on one page. The longest take a kilobyte each, so a page has at most some 100 kB."""


class QuarantineAction(StrEnum):
    """The requests of an operator for users in quarantine."""

    LIST = "list"
    RETRY = "retry"  # try the users now
    FORGET = "forget"  # remove the entries; the users are tried again when their documents change


class Inquiry(msgspec.Struct, frozen=True, tag="inquiry"):
    """A question or an order about users in quarantine. `number` identifies it.

    It concerns the users after the id `after`, in the order of their ids. `document_ids`, if not empty, and `kind`, if
    given, restrict them further.
    """

    number: int
    action: QuarantineAction
    document_ids: tuple[str, ...] = ()
    kind: str | None = None
    after: str = ""


class KeptUser(msgspec.Struct, frozen=True):
    """A user in quarantine, for people. `since` is the wall clock, in seconds.

    `next_try_in` is in how many seconds the user is tried again; None if only a change of the document helps. `deleted`
    says that the user's document was deleted. `waits_for` are the nodes whose return the user waits for.
    """

    document: str
    deleted: bool
    kind: str
    error: str
    advice: str
    failures: int
    since: float
    passing: bool
    waits_for: tuple[str, ...] = ()
    next_try_in: float | None = None


class InquiryPage(msgspec.Struct, frozen=True, tag="page"):
    """The answer to the inquiry with this number. `more` says that further users follow the last one."""

    number: int
    users: tuple[KeptUser, ...]
    more: bool = False
