"""The token that all requests of a process carry: threads wait for it, and have it checked after a refusal.

One thread of the supervisor logs in and checks tokens (`peruserd.couch.authenticator`). All other threads, in all
processes, take the token from here. A refused request alone proves nothing, because a user's own code can return any
status. It only starts a check, which that thread answers.
"""

import base64
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from peruserd import threads
from peruserd.core.common.secret import Secret
from peruserd.core.processes.messages import Credentials, Reauthenticate, Token
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

# A login or a check takes up to three requests, and each may take as long as any request.
_MAX_VERDICT_SECONDS: Final = 120.0
_MAX_CHECK_SECONDS: Final = 40.0

# Failures of a login or a check that mean the same for every request.
_OF_THE_SERVER: Final = (RefusedError, ServerError, TimedOutError, UnexpectedAnswerError, UnreachableError)


def basic_token(credentials: Credentials, number: int = 0) -> Token:
    """Return a token with the password itself."""
    return Token(number, authorization=basic_value(credentials))


def basic_value(credentials: Credentials) -> Secret:
    """Return the value of a Basic Authorization header."""
    pair = f"{credentials.username}:{credentials.password.value}".encode()
    return Secret(f"Basic {base64.b64encode(pair).decode('ascii')}")


class Tokens:
    """The token that all sessions of a process share; for any number of threads.

    - `ask` starts a check, and returns at once. It gets the number of the check, and the node if it is not the attached
      one.
    - Without `ask` the token never changes, and a refusal is an ordinary answer.
    - With `ask` and no token, it is not known yet whether the server lets this instance in.
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
        """The reason why there is no token, or why the last check failed."""
        return self._trouble

    @property
    def obstacle(self) -> str | None:
        """The reason in words why there is no token; None while there is one, or while the reason is not known."""
        trouble = self._trouble
        if self._token is not None or trouble is None:
            return None
        return str(trouble) if isinstance(trouble, RefusedError) else f"waiting for CouchDB: {trouble}"

    # For sessions

    def obtain(self, patience_seconds: float, is_interrupted: Callable[[], bool]) -> Token:
        """Return the token as soon as there is one.

        If the result of the login is not known yet, wait for it. If the server does not let this instance in, wait up
        to `patience_seconds`. Raises RefusedError or another error of the login, and InterruptedRequestError.
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
                threads.beat(left)
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            return token

    def check(
        self, token: Token, node: str | None, patience_seconds: float, is_interrupted: Callable[[], bool]
    ) -> Token | None:
        """Have a token checked that an answer refused; return a newer token for another try.

        `node` is the node in the request's path, if not the attached one. Returns None if the server takes the token,
        so that the answer is only about the path. Raises the same errors as `obtain`, and those of a check that failed.
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
        """Take a newer cookie that the server gave in answer to `token`, unless another thread was faster.

        A cookie of another account is ignored: documents that this account may not see would seem to be missing.
        """
        if token.cookie is not None and is_anothers(cookie, token.cookie):
            return
        with self._changed:
            if self._token is token:
                self._token = msgspec.structs.replace(token, cookie=cookie)
                self.renewed_at = time.monotonic()

    def wake(self) -> None:
        """Wake all waiting threads, so that they notice an interruption."""
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
        """Make requests wait until the next login has ended."""
        with self._changed:
            self._token = None
            self._trouble = None
            self._changed.notify_all()

    def refuse(self, trouble: CouchError) -> None:
        """Make requests wait, because the server does not let this instance in; `trouble` is the reason."""
        with self._changed:
            self._token = None
            self._trouble = trouble
            self._changed.notify_all()

    def follow(self, message: Reauthenticate) -> None:
        """Take the token, or the reason why there is none, from the process that logs in."""
        trouble = None if message.why is None else RefusedError(message.why)
        if message.token is not None:
            self.admit(message.token)
        else:
            self.refuse(trouble or RefusedError("it is not known whether the server lets this instance in"))
        self.answer(message.answers, trouble)

    def answer(self, number: int, trouble: CouchError | None = None) -> None:
        """Note that all checks up to `number` are answered; `trouble` is the reason if they failed."""
        with self._changed:
            self._answered = max(self._answered, number)
            if self._token is not None:
                self._trouble = trouble
            self._changed.notify_all()

    def close(self) -> None:
        """Interrupt all waiting threads, and let no other wait."""
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
                threads.beat(left)
                self._changed.wait(min(left, threading.TIMEOUT_MAX))
            if self._token is not None and self._trouble is not None:
                raise _again(self._trouble)

    def _refuse_if_over(self, is_interrupted: Callable[[], bool]) -> None:
        if self._closed or is_interrupted():
            raise InterruptedRequestError("interrupted while it waited to be let in")


def _again(trouble: CouchError | None) -> CouchError:
    """Return a new error for each thread, because an error that is raised twice collects both tracebacks.

    A failure of a login or a check could mislead the caller: its 404 must not look like a missing database.
    """
    if trouble is None:
        return TimedOutError("not known in time whether the server lets this instance in")
    kind = type(trouble) if isinstance(trouble, _OF_THE_SERVER) else RefusedError
    return kind(*trouble.args)
