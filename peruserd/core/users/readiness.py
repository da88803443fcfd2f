"""The answer to "is this user ready?", from the copies of the user document and of the database.

Asking changes nothing, and the answer is not remembered. It contains the state of the user and no more.
"""

from enum import StrEnum
from typing import Final

import msgspec

from peruserd.core.common.majority import is_majority
from peruserd.core.common.names import UnservableNameError, advice_on_id, database_name
from peruserd.core.users import security
from peruserd.core.users.evidence import DocumentState, Evidence, judge
from peruserd.core.users.facts import CopyReading
from peruserd.core.users.inquiries import KeptUser

MAX_WAIT_SECONDS: Final = 60.0
"""The longest wait of one request. A proxy in between can end a request sooner."""

# A new user is usually served within a tenth of a second. Pauses grow with the passed time, so the answer is late by a
# quarter of that time at most.
_FIRST_PAUSE_SECONDS: Final = 0.05
_GROWTH: Final = 1.25
_MAX_PAUSE_SECONDS: Final = 2.0

# The number of small looks between two whole ones. A small look cannot show that the user was deleted meanwhile.
_SMALL_LOOKS: Final = 8


class UserState(StrEnum):
    """The state of a user."""

    SERVED = "served"  # the document is live, the database is there and the user has access
    IN_PROGRESS = "in_progress"  # the document is live, but the database or the access is missing
    QUARANTINED = "quarantined"  # as in_progress, and this instance has failed to serve the user
    UNKNOWN = "unknown"  # there is no such user document
    UNSERVABLE = "unservable"  # no database can have this name
    UNCLEAR = "unclear"  # the server could not be asked, or too few of its nodes answered


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one user.

    `kind` is the kind of the failure in quarantine, or of the error that prevented the question to the server.
    `passing` says whether the instance tries a user in quarantine again by itself. `hint` proposes the probable name if
    there is no user of the given name.
    """

    user: str
    state: UserState
    kind: str | None = None
    passing: bool | None = None
    hint: str | None = None

    @property
    def is_final(self) -> bool:
        """Say whether waiting longer is useless, because the answer changes only if somebody acts."""
        if self.state is UserState.QUARANTINED:
            return not self.passing
        return self.state not in (UserState.IN_PROGRESS, UserState.UNCLEAR)


def unservable(prefix: str, user: str) -> str | None:
    """Return in words why no database can be named after this user; None if one can."""
    try:
        database_name(prefix, user)
    except UnservableNameError as error:
        return str(error)
    return None


def readiness(user: str, evidence: Evidence, copies: tuple[CopyReading, ...] | None) -> Readiness:
    """Return the state of a user by the answers of all copies. `copies` is None if there is no database.

    A user is served if a majority of the database's copies could be read and each of them grants access.
    """
    document = judge(evidence)
    if document.state is DocumentState.UNCLEAR and not evidence.has_majority:
        # Without an authentication database no node can answer, not even after its return.
        return Readiness(user, UserState.UNCLEAR, "no_majority" if evidence.hosts else "no_auth_db")
    if document.state in (DocumentState.DELETED, DocumentState.MISSING):
        return Readiness(user, UserState.UNKNOWN, hint=advice_on_id(user))
    is_served = document.state is DocumentState.LIVE and _has_access(user, copies or ())
    return Readiness(user, UserState.SERVED if is_served else UserState.IN_PROGRESS)


def with_quarantine(found: Readiness, kept: KeptUser | None) -> Readiness:
    """Return the state, with the user's quarantine taken into account. A user who is served stays served."""
    if kept is None or found.state is not UserState.IN_PROGRESS:
        return found
    return Readiness(found.user, UserState.QUARANTINED, kept.kind, passing=kept.passing)


def is_whole_look(number: int) -> bool:
    """Say whether the look with this number, from 0, reads everything and not only the database."""
    return number % (_SMALL_LOOKS + 1) == 0


def pause_seconds(number: int) -> float:
    """Return how long to wait after the look with this number, from 0, before the next one at the same user."""
    # The exponent is limited, because the power would overflow.
    return min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * _GROWTH ** min(number, 100))


def lets_in(found: security.Security, user: str) -> bool:
    """Say whether a security object admits the user but not everybody. A malformed object admits nobody.

    The user may be a member or an admin; the configuration and the database decide that.
    """
    if "members" in found:
        # CouchDB ignores `readers` if there are `members`.
        found = {section: content for section, content in found.items() if section != "readers"}
    try:
        return security.names_user(found, user) and not security.is_public(found)
    except security.MalformedSecurityError:
        return False


def _has_access(user: str, copies: tuple[CopyReading, ...]) -> bool:
    read = [each.security for each in copies if each.security is not None]
    return is_majority(len(read), len(copies)) and all(lets_in(each, user) for each in read)
