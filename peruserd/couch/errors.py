"""The errors of requests, by what the caller can do about them.

Messages have the request and the server's own words. They never have credentials, because a session's URLs have none.
"""

from typing import ClassVar

from peruserd.core.users.quarantine import Advice


class CouchError(Exception):
    """A request has failed. `kind` is the name of the failure in metrics."""

    kind: ClassVar[str] = "error"
    advice: ClassVar[Advice] = Advice.RETRY


class UnreachableError(CouchError):
    """There was no connection, or it broke; whether the server acted is unknown."""

    kind = "unreachable"


class TimedOutError(CouchError):
    """There was no answer in time; whether the server acted is unknown."""

    kind = "timeout"


class NothingYetError(TimedOutError):
    """The server began to answer a long poll, and did not end the answer in time. The server may well be alive."""


class InterruptedRequestError(CouchError):
    """This process ended the request, because it is stopping."""

    kind = "interrupted"


class ServerError(CouchError):
    """The server answered with a status of 500 or above, or asked to come back later."""

    kind = "server_error"


class GatewayError(ServerError):
    """A proxy got no answer from the server; whether the server acted is unknown."""


class NoMajorityError(ServerError):
    """Too few copies could be reached. Those copies *are* changed, so the write must be repeated until it succeeds."""

    kind = "no_majority"


class NodeDownError(CouchError):
    """The node that should answer is not connected to the node that was asked."""

    kind = "node_down"


class UnexpectedAnswerError(CouchError):
    """The answer is not CouchDB's: it came from another server, or from a proxy."""

    kind = "unexpected_answer"


class TooLargeError(CouchError):
    """The answer is larger than its limit. Answers are limited because users decide how large documents are."""

    kind = "too_large"
    advice = Advice.ASK_OPERATOR


class NotFoundError(CouchError):
    """Status 404; `reason` is the server's own, such as "missing" or "deleted"."""

    kind = "not_found"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_of_database(self) -> bool:
        """Say whether the server itself knows no such database; a proxy's 404 has another reason."""
        return self.is_of_file or self.reason == "Database does not exist."

    @property
    def is_of_file(self) -> bool:
        """Say whether a node has no file for a copy."""
        return self.reason == "no_db_file"


class ConflictError(CouchError):
    """Status 409: another writer was faster."""

    kind = "conflict"


class RejectedError(CouchError):
    """The server does not accept the request as it is: an unknown placement, or a name that is not allowed."""

    kind = "rejected"
    advice = Advice.ASK_OPERATOR


class RefusedError(CouchError):
    """The server does not let this instance in, so the request was not sent.

    The password is wrong, or the account is locked. This concerns the whole instance, and no single user.
    """

    kind = "refused"


class UnauthorizedError(CouchError):
    """Status 401 or 403 although the server takes the token: this one path is closed to the account."""

    kind = "unauthorized"
    advice = Advice.ASK_OPERATOR


class ForbiddenError(UnauthorizedError):
    """Status 403, or a 401 that is not in CouchDB's form: a proxy has answered.

    CouchDB itself answers 401 for a page of server admins.
    """
