"""The answer to "is this user ready?", from what the copies of the user document and of the database say.

Nothing is changed by asking, and nothing of it is remembered. An answer says the state of the user and no more.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.common.names import UnservableNameError, advice_on_id, database_name
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Evidence, judge
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.inquiries import KeptUser

MAX_WAIT_SECONDS: Final = 60.0
"""The longest wait of one request; a proxy in between can end one sooner."""

# A user who signs up is served within a tenth of a second as a rule. Pauses grow with the time that has passed, so the
# answer comes by a quarter of that time later at most.
_FIRST_PAUSE_SECONDS: Final = 0.05
_GROWTH: Final = 1.25
_MAX_PAUSE_SECONDS: Final = 2.0

# Between two whole looks are so many small ones, which cannot show that the user was deleted meanwhile.
_SMALL_LOOKS: Final = 8


class UserState(StrEnum):
    """The state of a user."""

    SERVED = "served"  # the document is live, the database is there and the user has access
    IN_PROGRESS = "in_progress"  # the document is live, and the rest is not yet so
    QUARANTINED = "quarantined"  # as in_progress, and this instance has failed to serve the user
    UNKNOWN = "unknown"  # there is no such user document
    UNSERVABLE = "unservable"  # no database can have this name
    UNCLEAR = "unclear"  # the server could not be asked, or too few of its nodes answered


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one user.

    `kind` is that of the failure in quarantine, or of the error by which the server could not be asked. `passing` says
    whether the instance tries again by itself, where the user is in quarantine. `hint` says what was meant instead of a
    name that nobody has.
    """

    user: str
    state: UserState
    kind: str | None = None
    passing: bool | None = None
    hint: str | None = None

    @property
    def is_final(self) -> bool:
        """Say whether waiting is over: another answer is not to be expected unless somebody does something."""
        if self.state is UserState.QUARANTINED:
            return not self.passing
        return self.state not in (UserState.IN_PROGRESS, UserState.UNCLEAR)


def unservable(prefix: str, user: str) -> str | None:
    """Return in words why no database can bear this user's name; None where one can."""
    try:
        database_name(prefix, user)
    except UnservableNameError as error:
        return str(error)
    return None


def readiness(user: str, evidence: Evidence, copies: tuple[CopyReading, ...] | None) -> Readiness:
    """Return the state of a user by the answers of all copies; `copies` is None where there is no database.

    A user is served where a majority of the database's copies could be read and each of them grants access.
    """
    document = judge(evidence)
    if document.state is DocumentState.UNCLEAR and not evidence.has_majority:
        # Without an authentication database there is nobody to ask, which no node that returns will change.
        return Readiness(user, UserState.UNCLEAR, "no_majority" if evidence.hosts else "no_auth_db")
    if document.state in (DocumentState.DELETED, DocumentState.MISSING):
        return Readiness(user, UserState.UNKNOWN, hint=advice_on_id(user))
    is_served = document.state is DocumentState.LIVE and _has_access(user, copies or ())
    return Readiness(user, UserState.SERVED if is_served else UserState.IN_PROGRESS)


def with_quarantine(found: Readiness, kept: KeptUser | None) -> Readiness:
    """Return the state of a user whom this instance keeps in quarantine; a user who is served stays that."""
    if kept is None or found.state is not UserState.IN_PROGRESS:
        return found
    return Readiness(found.user, UserState.QUARANTINED, kept.kind, passing=kept.passing)


def is_whole_look(number: int) -> bool:
    """Say whether the look with this number, from 0, at one user is at everything, and not at the database alone."""
    return number % (_SMALL_LOOKS + 1) == 0


def pause_seconds(number: int) -> float:
    """Return how long to wait after the look with this number, from 0, before the next one at the same user."""
    # The limit keeps the power from growing without end.
    return min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * _GROWTH ** min(number, 100))


def lets_in(found: security.Security, user: str) -> bool:
    """Say whether a security object lets the user in and not everybody; one that is malformed lets nobody in.

    Whether as a member or as an admin is the configuration's and the database's own affair.
    """
    if "members" in found:
        # CouchDB does not look at `readers` then.
        found = {section: content for section, content in found.items() if section != "readers"}
    try:
        return security.names_user(found, user) and not security.is_public(found)
    except security.MalformedSecurityError:
        return False


def _has_access(user: str, copies: tuple[CopyReading, ...]) -> bool:
    read = [each.security for each in copies if each.security is not None]
    return 2 * len(read) > len(copies) and all(lets_in(each, user) for each in read)
