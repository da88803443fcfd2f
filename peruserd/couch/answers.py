"""Answers of a server: their decoding, and the errors for their statuses."""

from typing import Final, TypeVar

import msgspec

from peruserd.core.common.decoders import json_decoder
from peruserd.core.common.nesting import MAX_LEVELS, is_too_deep, may_be_too_deep
from peruserd.couch import errors
from peruserd.couch.cookies import SessionCookie

T = TypeVar("T")

# CouchDB's reason, since 3.4.
_LOCKED: Final = "Account is temporarily locked due to multiple authentication failures"


class Answer(msgspec.Struct, frozen=True):
    """An answer of a server. `request` names the request in messages; `date` is the header of that name."""

    request: str
    status: int
    body: bytes
    session: SessionCookie | None = None  # a session that comes with the answer
    date: str = ""

    def decode(self, shape: type[T]) -> T:
        """Return the body as `shape`; raises UnexpectedAnswerError if it is something else."""
        try:
            found = json_decoder(shape).decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Deeply nested JSON raises RecursionError.
            raise errors.UnexpectedAnswerError(f"{self.request}: {error}: {self._excerpt()}") from error
        # Types of our own keep only the fields that they name. A type with a user's document checks its depth itself.
        if isinstance(found, dict) and may_be_too_deep(self.body) and is_too_deep(found):
            message = f"{self.request}: more than {MAX_LEVELS} objects inside one another: {self._excerpt()}"
            raise errors.UnexpectedAnswerError(message)
        return found

    def expect(self, *statuses: int) -> "Answer":
        """Return this answer if its status is one of `statuses`; otherwise raise the error for its status."""
        if self.status in statuses:
            return self
        raise self._error()

    @property
    def reason(self) -> str:
        """The server's reason for a failure."""
        return self._failure().reason

    @property
    def has_reason(self) -> bool:
        """Say whether a failure has a reason in CouchDB's form; a proxy's answer has not."""
        try:
            json_decoder(_Reason).decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        return True

    @property
    def refuses(self) -> bool:
        """Say whether the server may have refused the token. A user's own code can give the same answer."""
        return self.status == 401 or self.is_locked

    @property
    def is_locked(self) -> bool:
        """Say whether CouchDB has locked the account for this address."""
        return self.status == 403 and self.reason == _LOCKED

    @property
    def is_of_couchdb(self) -> bool:
        """Say whether a refusal has CouchDB's form, and not a proxy's."""
        return self._failure().error in ("unauthorized", "forbidden")

    def _error(self) -> errors.CouchError:
        failure = self._failure()
        message = f"{self.request}: {self.status} {failure.error}: {failure.reason}"
        if failure.error == "nodedown":
            return errors.NodeDownError(message)
        if failure.reason == "no_majority":
            return errors.NoMajorityError(message)
        if self.status == 404:
            return errors.NotFoundError(message, failure.reason)
        if self.status == 401 and not self.has_reason:
            return errors.ForbiddenError(message)
        return _BY_STATUS.get(self.status, _class_of(self.status))(message)

    def _failure(self) -> "_Failure":
        try:
            return json_decoder(_Failure).decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _Failure(error="answer without a reason", reason=self._excerpt())

    def _excerpt(self) -> str:
        return repr(self.body[:200].decode(errors="replace"))


class _Failure(msgspec.Struct, frozen=True):
    error: str = "error"
    reason: str = ""


class _Reason(msgspec.Struct, frozen=True):
    error: str
    reason: str


_BY_STATUS: Final[dict[int, type[errors.CouchError]]] = {
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    408: errors.ServerError,
    409: errors.ConflictError,
    429: errors.ServerError,
    502: errors.GatewayError,
    504: errors.GatewayError,
}


def _class_of(status: int) -> type[errors.CouchError]:
    if status >= 500:
        return errors.ServerError
    return errors.RejectedError if status >= 400 else errors.UnexpectedAnswerError
