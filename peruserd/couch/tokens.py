"""The token of a process: what its requests carry, who waits for it, and what is done when one is doubted.

One thread of the supervisor finds out what the server takes (`peruserd.couch.authenticator`); all others, in all
processes, have it from here. A request that is refused is never a verdict by itself: a user's own code can throw any
status. It is a check, whose answer comes from there.
"""

import base64
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from peruserd.core.common.secret import Secret
from peruserd.core.processes.messages import Credentials, Token
from peruserd.couch.cookies import is_anothers
from peruserd.couch.errors import (
    CouchError,
    InterruptedRequestError,
    RefusedError,
    ServerError,
    TimedOutError,
    UnexpectedAnswerError,
    UnreachableError,
)

NOBODY: Final = Token()
"""The token without credentials."""

# To find out takes a request or three, each of which may take as long as a request may.
_MAX_VERDICT_SECONDS: Final = 120.0
_MAX_CHECK_SECONDS: Final = 40.0

# Failures of a login or a probe that mean the same for every request.
_OF_THE_SERVER: Final = (RefusedError, ServerError, TimedOutError, UnexpectedAnswerError, UnreachableError)


def basic_token(credentials: Credentials, number: int = 0) -> Token:
    """Return the token that carries the password itself."""
    return Token(number, authorization=basic_value(credentials))


def basic_value(credentials: Credentials) -> Secret:
    """Return the value of an Authorization header."""
    pair = f"{credentials.username}:{credentials.password.value}".encode()
    return Secret(f"Basic {base64.b64encode(pair).decode('ascii')}")


class Tokens:
    """The token that all sessions of a process share; for any number of threads.

    `ask` hands the number of a check, and the other node that it is about, to whoever finds out, and returns at once.
    Without it the token stays what it is, and an answer that refuses it is just an answer. With it and without a token
    it is not known yet whether the server lets this instance in.
    """

    def __init__(self, token: Token | None, ask: Callable[[int, str | None], None] | None = None) -> None:
        self._ask = ask
        self._changed = threading.Condition()
        self._token = token
        self._trouble: CouchError | None = None
        self._checks = 0
        self._answered = 0
        self._closed = False
        self.renewed_at = time.monotonic()

    @property
    def current(self) -> Token | None:
        """The token that requests carry now, None while they must wait."""
        return self._token

    @property
    def trouble(self) -> CouchError | None:
        """Why there is no token, or why the last check could not be looked into."""
        return self._trouble

    # For sessions

    def obtain(self, patience_seconds: float, is_interrupted: Callable[[], bool]) -> Token:
        """Return the token, as soon as there is one.

        Waits as long as it is not known whether the server lets this instance in, and `patience_seconds` where it is
        known not to. Raises RefusedError, or what else stands in the way, and InterruptedRequestError.
        """
        token = self._token
        if token is not None:
            return token
        begun = time.monotonic()
        with self._changed:
            while (token := self._token) is None:
                self._refuse_if_over(is_interrupted)
                patience = _MAX_VERDICT_SECONDS if self._trouble is None else patience_seconds
                left = begun + patience - time.monotonic()
                if left <= 0:
                    raise _again(self._trouble)
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return token

    def check(
        self, token: Token, node: str | None, patience_seconds: float, is_interrupted: Callable[[], bool]
    ) -> Token | None:
        """Find out about a token that an answer refuses; return one to send the request with again.

        `node` is the other node that the request was for, if it was. None is returned where the server takes the token,
        so that the answer is about the path alone. Raises as `obtain` does, and what stands in the way of finding out.
        """
        if self._ask is None:
            return None
        with self._changed:
            known = self._token is not token
            if not known:
                self._checks += 1
                number = self._checks
        if not known:
            self._ask(number, node)
            self._wait_for_answer(number, token, max(patience_seconds, _MAX_CHECK_SECONDS), is_interrupted)
        newer = self.obtain(patience_seconds, is_interrupted)
        return None if newer == token else newer

    def refresh(self, token: Token, cookie: Secret) -> None:
        """Take the cookie that the server gives to who came with `token`, unless another thread was faster.

        The cookie of another account is none: what it may not see would be taken for missing.
        """
        if token.cookie is not None and is_anothers(cookie, token.cookie):
            return
        with self._changed:
            if self._token is token:
                self._token = msgspec.structs.replace(token, cookie=cookie)
                self.renewed_at = time.monotonic()

    def wake(self) -> None:
        """Let those who wait look whether they are interrupted."""
        with self._changed:
            self._changed.notify_all()

    # For the thread that finds out, or hears from it

    def admit(self, token: Token) -> None:
        """Let requests carry this token from now on."""
        with self._changed:
            if self._token is None or self._token.cookie != token.cookie:
                self.renewed_at = time.monotonic()
            self._token = token
            self._trouble = None
            self._changed.notify_all()

    def withdraw(self) -> None:
        """Let requests wait until it is known whether there is another token."""
        with self._changed:
            self._token = None
            self._trouble = None
            self._changed.notify_all()

    def shut(self, trouble: CouchError) -> None:
        """Let requests wait: the server does not let this instance in, for what `trouble` says."""
        with self._changed:
            self._token = None
            self._trouble = trouble
            self._changed.notify_all()

    def answer(self, number: int, trouble: CouchError | None = None) -> None:
        """Take note that all checks up to `number` were looked into; `trouble` is why that was not possible."""
        with self._changed:
            self._answered = max(self._answered, number)
            if self._token is not None:
                self._trouble = trouble
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more: whoever does is interrupted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # Inside, with the lock held or taken

    def _wait_for_answer(
        self, number: int, token: Token, patience_seconds: float, is_interrupted: Callable[[], bool]
    ) -> None:
        begun = time.monotonic()
        with self._changed:
            while self._answered < number and self._token is not None and self._token.number == token.number:
                self._refuse_if_over(is_interrupted)
                left = begun + patience_seconds - time.monotonic()
                if left <= 0:
                    raise TimedOutError("not known in time whether the server takes the session")
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            if self._token is not None and self._trouble is not None:
                raise _again(self._trouble)

    def _refuse_if_over(self, is_interrupted: Callable[[], bool]) -> None:
        if self._closed or is_interrupted():
            raise InterruptedRequestError("interrupted while it waited to be let in")


def _again(trouble: CouchError | None) -> CouchError:
    """Return an error of one's own for each thread: what is raised twice has two tracebacks in one.

    A login or a probe can fail in a way that would mean something else to the caller. A 404 of theirs must not be taken
    for a database that is not there.
    """
    if trouble is None:
        return TimedOutError("not known in time whether the server lets this instance in")
    kind = type(trouble) if isinstance(trouble, _OF_THE_SERVER) else RefusedError
    return kind(*trouble.args)
