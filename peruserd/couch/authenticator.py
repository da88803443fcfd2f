"""The authenticator: the only thread of an instance that sends the password. It logs in and checks tokens.

All other requests, in all processes, carry the token that it hands out, and wait while there is none. If the server
refuses a token, only this thread checks it, with one request at a time. So CouchDB never counts enough refusals to lock
the account.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

import structlog

from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.processes.messages import Reauthenticate, Token
from peruserd.core.processes.password_gate import Gate, Verdict
from peruserd.couch.credentials import Source
from peruserd.couch.errors import CouchError, GatewayError, RefusedError, ServerError, TimedOutError
from peruserd.couch.login import Admission, Login
from peruserd.couch.login_messages import LoginMessages
from peruserd.couch.refusals import BusyError, RefusalFile, Refusals
from peruserd.couch.session import Session
from peruserd.couch.tokens import NOBODY, Tokens
from peruserd.repeated_task import RepeatedTask

# After the password was refused, its file is read again this often.
_REREAD_SECONDS: Final = 2.0

# The other process that is asking has finished after a request or two.
_BUSY_SECONDS: Final = 0.2

# CouchDB's default for the life of a session. After this part of it, without a newer cookie, the thread logs in again.
_USUAL_LIFETIME_SECONDS: Final = 600.0
_RENEWED_AFTER: Final = 0.8

# The thread wakes up at least this often.
_MAX_WAIT_SECONDS: Final = 60.0

log = structlog.get_logger(__name__)


Answers = dict[Hashable, int]
"""The newest check of each process that was answered."""


class Authenticator:
    """Keeps the token of this process up to date, in `tokens`, and notifies other processes.

    - `notify` is called with the answered checks, or with None for a message to every process. It must return at once.
    - `state` returns the message for other processes.
    - `asks_again` is False for a command, which ends after a refusal; the error messages then say so.
    """

    def __init__(
        self,
        couchdb: CouchDBConfig,
        source: Source,
        record: RefusalFile,
        notify: Callable[[Answers | None], None] = lambda _answers: None,
        *,
        asks_again: bool = True,
    ) -> None:
        self._couchdb = couchdb
        self._source = source
        self._record = record
        self._notify = notify
        self._asks_again = asks_again
        self._session = Session(couchdb, Tokens(NOBODY), repeat_reads=False)
        self._credentials = source.credentials
        self.tokens = Tokens(NOBODY) if self._credentials is None else Tokens(None, self._ask)
        self._gate = Gate()
        self._lifetime = _USUAL_LIFETIME_SECONDS
        self._last_verdict: Verdict | None = None
        self._number = 0
        self._lock = threading.Lock()
        self._checks: Answers = {}
        self._nodes: set[str] = set()
        self._relays = False
        self._own_check = 0
        self._own_answered = 0
        self._rereads = False
        self._task = RepeatedTask("authenticator", self._turn)
        self.logins = 0
        self.refusals = 0

    def start(self) -> None:
        """Start the thread, if there are credentials."""
        if self._credentials is not None:
            self._task.start()

    def stop(self) -> None:
        """End the thread, and interrupt all waits for a token; returns when it has ended, or its time is over."""
        self._task.stop()
        self.tokens.close()
        self._session.interrupt()
        self._task.join()
        self._session.close()

    # For other threads

    def check_token(self, who: Hashable, number: int, node: str | None) -> None:
        """Add a check of another process; `node` is the node whose path was refused, if not the attached one."""
        with self._lock:
            self._checks[who] = number
            self._nodes |= {node} if node is not None else set()
        self._task.soon()

    def reread(self, source: Source | None = None) -> None:
        """Read the credentials again, from another source if one is given."""
        self._source = source or self._source
        self._rereads = True
        self._task.soon()

    def state(self) -> Reauthenticate:
        """Return the message for other processes: the current token, and the reason if there is none."""
        trouble = self.tokens.trouble
        return Reauthenticate(self.tokens.current, None if trouble is None else str(trouble))

    @property
    def trouble(self) -> str | None:
        """The reason why the server does not let this instance in; None while it does, or while that is not known."""
        return self.tokens.obstacle

    def _ask(self, number: int, node: str | None) -> None:
        with self._lock:
            self._own_check = number
            self._nodes |= {node} if node is not None else set()
        self._task.soon()

    # The thread

    def _turn(self) -> float:
        try:
            return self._do_due()
        finally:
            # Connections are closed: the next use is minutes away, and the server may have closed them by then.
            self._session.close()

    def _do_due(self) -> float:
        """Do what is due; return the seconds until the next turn."""
        with self._lock:
            own, checks, nodes = self._own_check, dict(self._checks), set(self._nodes)
        rereads, self._rereads = self._rereads, False
        if rereads or self._awaits_another:
            self._reread(is_asked=rereads)
        before = self.tokens.current
        trouble: CouchError | None = None
        wait = self._seconds_until_login(before)
        if before is not None and (checks or own > self._own_answered):
            wait, trouble = self._check(before, nodes)
        elif before is None or wait <= 0:
            wait, trouble = self._log_in()
        with self._lock:  # a check is removed only after it was answered, because a thread waits for each
            self._checks = {who: number for who, number in self._checks.items() if number != checks.get(who)}
            self._nodes -= nodes
        if checks or own > self._own_answered:  # other turns must not take back the answer to an earlier check
            self._own_answered = own
            self.tokens.answer(own, trouble)
        after = self.tokens.current
        if (before and before.number) != (after and after.number):
            self._notify(None)
        if checks:
            self._notify(checks)
        return wait

    def _check(self, token: Token, nodes: set[str]) -> tuple[float, CouchError | None]:
        """Check whether the server takes the token; if it does not, try to get another.

        Returns the seconds until the next turn, and the error if the check failed.
        """
        if token.cookie is None:
            # A check of this token sends the password. If only the gate forbids that, and no refusal or lock was seen,
            # the token is kept, because it may be right.
            wait, trouble = self._log_in()
            if trouble is not None and (self._gate.refused or self._gate.locked):
                self.tokens.refuse(trouble)
            return wait, trouble
        try:
            if self._login().takes(token):
                self._check_nodes(token, nodes)
                return self._seconds_until_login(token), None
        except CouchError as error:
            return self._seconds_until_login(token), error
        log.info("the server does not take the session any more; logging in again")
        self.tokens.withdraw()
        return self._log_in()

    def _check_nodes(self, token: Token, nodes: set[str]) -> None:
        """Check whether other nodes take the session. If one does not, other nodes' paths get the password as well."""
        if token.relayed is None and (strangers := sorted(each for each in nodes if not self._is_taken(token, each))):
            log.warning(
                "nodes do not take the session of another; their paths get the password",
                nodes=strangers,
                advice='give the account the same hash on each node: see "The account" in docs/install.md',
            )
            self._relays = True
            self._number += 1
            self.tokens.admit(self._login().relayed(token, self._number))

    def _is_taken(self, token: Token, node: str) -> bool:
        try:
            return self._login().takes(token, node)
        except CouchError:
            # The node may be away. In that case the refusal was about the path.
            return True

    def _log_in(self) -> tuple[float, CouchError | None]:
        """Log in, if the gate allows it; return the seconds until the next try, and the error, if any.

        The current token stays until there is another one.
        """
        wait, trouble = self._try_to_log_in()
        if trouble is not None and self.tokens.current is None:
            self.tokens.refuse(trouble)
        if trouble is not None and self._awaits_another:
            wait = min(wait, _REREAD_SECONDS)
        return wait, trouble

    def _try_to_log_in(self) -> tuple[float, CouchError | None]:
        try:
            with self._record.held() as record:
                now = time.time()
                self._gate = self._gate.recall(record.times, now)
                if any(each > now for each in record.times):
                    # The clock was set back since these times were written. Unchanged, they would count as new each
                    # time.
                    record.write(self._gate.refusals)
                pause = self._gate.pause(now)
                if pause > 0:
                    return pause, RefusedError(self._why_shut(pause))
                return self._send(record)
        except BusyError:
            # The lock is busy, so nothing is known yet. Sessions without a token go on waiting. Sessions that wait for
            # a check get a time-out.
            in_doubt = TimedOutError("another process of this instance is asking just now")
            return _BUSY_SECONDS, self.tokens.trouble or (in_doubt if self.tokens.current is not None else None)

    def _send(self, record: Refusals) -> tuple[float, CouchError | None]:
        sent = False
        asking = self._gate.ask(time.time())

        def before_sending() -> None:
            nonlocal sent
            sent = True
            record.write(asking.refusals)

        trouble: CouchError | None = None
        try:
            admission = self._login().log_in(self._number + 1, before_sending)
        except CouchError as error:
            trouble = error
            # If the server itself answered without a refusal, it did not count one.
            lost = sent and (isinstance(error, GatewayError) or not isinstance(error, ServerError))
            admission = Admission(Verdict.UNANSWERED if lost else Verdict.UNJUDGED if sent else Verdict.UNSENT)
        now = time.time()
        self._gate = asking.answered(admission.verdict, now)
        if sent:
            record.write(self._gate.refusals)
        pause = self._gate.pause(now)
        if (token := admission.token) is not None:
            self._admitted(admission, self._login().relayed(token, token.number) if self._relays else token)
            return self._seconds_until_login(token), None
        if admission.verdict is Verdict.REFUSED:
            self.refusals += 1
        trouble = trouble or RefusedError(self._why_refused(admission.verdict, pause))
        is_news = self._last_verdict is not admission.verdict or admission.verdict is Verdict.REFUSED
        if is_news and self._asks_again:
            log.warning("not let in", error=str(trouble), kind=trouble.kind, again_in_seconds=round(pause))
        self._last_verdict = admission.verdict
        return pause, trouble

    def _admitted(self, admission: Admission, token: Token) -> None:
        self._number = token.number
        self._lifetime = admission.lifetime_seconds or _USUAL_LIFETIME_SECONDS
        self.logins += 1
        self.tokens.admit(token)
        log.info("logged in", username=self._username, by="session" if token.cookie is not None else "password")
        if admission.is_admin is False:
            log.warning("the account is no server admin, and little can be done with it", username=self._username)
        self._last_verdict = Verdict.ACCEPTED

    def _reread(self, *, is_asked: bool) -> None:
        before = self._credentials
        try:
            self._credentials = self._source.read() or before
        except ConfigError as error:
            log.warning("the password cannot be read again; the one before stays", error=str(error))
            return
        if self._credentials != before:
            self._gate = self._gate.renew()
        if self._credentials != before or is_asked:
            words = "another one" if self._credentials != before else "the same as before"
            log.info("the password was read again", found=words)

    # Words, and what is due

    def _why_refused(self, verdict: Verdict, pause: float) -> str:
        if verdict is Verdict.LOCKED:
            return self._messages.locked(pause, by_us=bool(self._gate.refusals))
        return self._messages.refused(pause)

    def _why_shut(self, pause: float) -> str:
        # A refusal is of the password before if the gate was renewed since.
        if (self._last_verdict is Verdict.REFUSED and self._gate.refused) or self._last_verdict is Verdict.LOCKED:
            return self._why_refused(self._last_verdict, pause)
        if self._gate.refusals and not (self._gate.failed or self._gate.unsent):
            return self._messages.withheld(len(self._gate.refusals), pause)
        return self._messages.unanswered(pause)

    @property
    def _awaits_another(self) -> bool:
        """Say whether the password's file is read again and again, because the right one may be put there."""
        withheld = self.tokens.current is None and bool(self._gate.refusals)
        return bool(self._gate.refused) or (self._source.is_file and withheld)

    @property
    def _messages(self) -> LoginMessages:
        source = self._source
        return LoginMessages(
            self._username, source.origin, source.is_file, self._asks_again, needs_restart=source.is_credential
        )

    @property
    def _username(self) -> str:
        return "" if self._credentials is None else self._credentials.username

    def _login(self) -> Login:
        if self._credentials is None:
            raise RuntimeError("nobody is to be logged in")
        return Login(self._session, self._credentials)

    def _seconds_until_login(self, token: Token | None) -> float:
        """Return the seconds until the next login. A newer cookie in an answer moves it further away."""
        if token is None or token.cookie is None:
            return _MAX_WAIT_SECONDS
        due = self.tokens.renewed_at + self._lifetime * _RENEWED_AFTER
        return min(due - time.monotonic(), _MAX_WAIT_SECONDS)
