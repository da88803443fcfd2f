"""Questions of an operator to a listener about its quarantine, and the answers, a page at a time.

A listener alone may read its state file, so the entries travel over the pipe. Pages are small: the supervisor's loop
takes each in at once, and a listener has up to 100,000 users in quarantine.
"""

from enum import StrEnum
from typing import Final

import msgspec

MAX_ON_A_PAGE: Final = 100
"""Entries on one page: some 100 kB, because the longest are a kilobyte each."""


class Wish(StrEnum):
    """The wishes of an operator for users in quarantine."""

    LIST = "list"
    RETRY = "retry"  # try them now
    FORGET = "forget"  # take them out, until their documents change again


class Inquiry(msgspec.Struct, frozen=True, tag="inquiry"):
    """A question about users in quarantine, or an order; `number` tells one from the next.

    It is about those after the id `after`, in the order of their ids: those in `document_ids` where any are named, and
    of one `kind` where one is given.
    """

    number: int
    wish: Wish
    document_ids: tuple[str, ...] = ()
    kind: str | None = None
    after: str = ""


class KeptUser(msgspec.Struct, frozen=True):
    """A user in quarantine, as people are told. `since` is the wall clock, in seconds.

    `next_try_in` is in how many seconds the user is tried again; None where nothing but a change helps. `deleted` says
    that the user's document was deleted. `waits_for` are the nodes that are waited for.
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
    """The answer to the inquiry of this number; `more` says that there are users after the last one."""

    number: int
    users: tuple[KeptUser, ...]
    more: bool = False
