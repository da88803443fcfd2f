"""The ways in which a request fails, by what the caller can do about it.

Messages name the request and the server's own words; they never hold credentials, because the session's URLs have none.
"""

from typing import ClassVar

from peruserd.core.users.quarantine import Advice


class CouchError(Exception):
    """A request that did not give what was asked for. `kind` is its name in metrics."""

    kind: ClassVar[str] = "error"
    advice: ClassVar[Advice] = Advice.RETRY


class UnreachableError(CouchError):
    """No connection, or it broke; whether the server acted is unknown."""

    kind = "unreachable"


class TimedOutError(CouchError):
    """No answer in time; whether the server acted is unknown."""

    kind = "timeout"


class NothingYetError(TimedOutError):
    """The server began to answer a long poll, and did not end its answer when it was asked to; it may well be alive."""


class InterruptedRequestError(CouchError):
    """This side ended the request, because it is stopping."""

    kind = "interrupted"


class ServerError(CouchError):
    """An answer of 500 or above, or one that says to come later."""

    kind = "server_error"


class GatewayError(ServerError):
    """A proxy's word for a server that did not answer it; whether the server acted is unknown."""


class NoMajorityError(ServerError):
    """Too few copies could be reached. These *are* changed, so the write must be repeated until it is a 200."""

    kind = "no_majority"


class NodeDownError(CouchError):
    """The node that was to answer is not connected to the one that was asked."""

    kind = "node_down"


class UnexpectedAnswerError(CouchError):
    """An answer that is not what CouchDB gives: another server, or something in between."""

    kind = "unexpected_answer"


class TooLargeError(CouchError):
    """An answer above its limit: what is read is bounded, because a user decides how much a document holds."""

    kind = "too_large"
    advice = Advice.ASK_OPERATOR


class NotFoundError(CouchError):
    """Status 404; `reason` is the server's word, which tells missing from deleted."""

    kind = "not_found"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_of_database(self) -> bool:
        """Say whether the server knows no database of that name; a proxy that finds nothing says something else."""
        return self.is_of_file or self.reason == "Database does not exist."

    @property
    def is_of_file(self) -> bool:
        """Say whether a node has no file of that name, in which a copy would be."""
        return self.reason == "no_db_file"


class ConflictError(CouchError):
    """Status 409: somebody else was faster."""

    kind = "conflict"


class RejectedError(CouchError):
    """A request the server does not accept as it stands: a placement it does not know, a name it does not allow."""

    kind = "rejected"
    advice = Advice.ASK_OPERATOR


class RefusedError(CouchError):
    """The server does not let this instance in: the request waits to be sent, and was not.

    The password is wrong, or the account is locked. That is a state of the whole instance, and of no user.
    """

    kind = "refused"


class UnauthorizedError(CouchError):
    """Status 401 or 403 although the server knows who asks: this one path is closed to the account."""

    kind = "unauthorized"
    advice = Advice.ASK_OPERATOR


class ForbiddenError(UnauthorizedError):
    """Status 403, or a 401 in other words than CouchDB's: something before it has answered.

    For a page that is for server admins CouchDB answers 401.
    """
