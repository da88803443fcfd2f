"""The one thread of an instance that sends the password: it logs in, finds out about checks, and waits at the gate.

All other requests, of all processes, carry the token that it hands out, and wait while there is none. So whatever the
server refuses is asked about by one request at a time, and CouchDB never counts enough of them to lock the account.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Protocol

import structlog

from peruserd import ending
from peruserd.core.configuration.config import CouchDBConfig
from peruserd.core.configuration.decoding import ConfigError
from peruserd.core.processes.authentication import Gate, Verdict
from peruserd.core.processes.messages import Credentials, Reauthenticate, Token
from peruserd.couch.errors import CouchError, GatewayError, RefusedError, ServerError, TimedOutError
from peruserd.couch.login import Admission, Login
from peruserd.couch.login_words import LoginWords
from peruserd.couch.refusals import BusyError, RefusalFile, Refusals
from peruserd.couch.session import Session
from peruserd.couch.tokens import NOBODY, Tokens

# How often a password that was refused is looked for in its file anew.
_REREAD_SECONDS: Final = 2.0

# Another process that asks is done within a request or two.
_BUSY_SECONDS: Final = 0.2

# CouchDB's own default; and when to log in again where no answer has brought a newer cookie before.
_USUAL_LIFETIME_SECONDS: Final = 600.0
_RENEWED_AFTER: Final = 0.8

# The thread sleeps no longer than this, even with nothing to do.
_MAX_WAIT_SECONDS: Final = 60.0

_AFTER_FAULT_SECONDS: Final = 15.0

log = structlog.get_logger(__name__)


class Source(Protocol):
    """The place that the credentials come from."""

    @property
    def credentials(self) -> Credentials | None:
        """The credentials as they were read last."""

    @property
    def is_file(self) -> bool:
        """Say whether they can change."""

    @property
    def origin(self) -> str:
        """Say where the password comes from."""

    def read(self) -> Credentials | None:
        """Read them again; raises ConfigError."""


Answers = dict[Hashable, int]
"""The newest doubt of each process that was looked into."""


class Authenticator:
    """Keeps `tokens`, those of this process, right; `notify` is called when other processes have to be told.

    It gets the checks that were looked into, or None where every process has to be told, and must return at once.
    `state` says what is so. With `asks_again` unset the words about a refusal are those of a command, which ends.
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
        self._said: Verdict | None = None
        self._number = 0
        self._lock = threading.Lock()
        self._checks: Answers = {}
        self._nodes: set[str] = set()
        self._relays = False
        self._own_check = 0
        self._own_answered = 0
        self._rereads = False
        self._stopping = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="authenticator", daemon=True)
        self.logins = 0
        self.refusals = 0

    def start(self) -> None:
        """Begin to log in, if there are credentials."""
        if self._credentials is not None:
            self._thread.start()

    def stop(self) -> None:
        """Look into nothing more, and let nobody wait; returns once the thread has ended, or does not in time."""
        self._stopping = True
        self.tokens.close()
        self._session.interrupt()
        self._wanted.set()
        if self._thread.ident is not None:
            ending.join(self._thread)
        self._session.close()

    # For other threads

    def check_token(self, who: Hashable, number: int, node: str | None) -> None:
        """Take in a doubt of another process; `node` is the other node that it is about, if it is."""
        with self._lock:
            self._checks[who] = number
            self._nodes |= {node} if node is not None else set()
        self._wanted.set()

    def reread(self) -> None:
        """Read the credentials again, because somebody says that they have changed."""
        self._rereads = True
        self._wanted.set()

    def state(self) -> Reauthenticate:
        """Return what requests carry now, and what stands in the way."""
        trouble = self.tokens.trouble
        return Reauthenticate(self.tokens.current, None if trouble is None else str(trouble))

    @property
    def trouble(self) -> str | None:
        """Why the server does not let this instance in; None while it does, or while that is not known."""
        return str(self.tokens.trouble) if self.tokens.current is None and self.tokens.trouble is not None else None

    def _ask(self, number: int, node: str | None) -> None:
        with self._lock:
            self._own_check = number
            self._nodes |= {node} if node is not None else set()
        self._wanted.set()

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait = self._turn()
            except Exception:
                # The thread goes on, because nobody would ever be let in again without it.
                log.exception("unforeseen failure of a login")
                wait = _AFTER_FAULT_SECONDS
            # Connections are not kept: the next time is minutes away, and the server may have hung up by then.
            self._session.close()
            self._wanted.wait(wait)
            self._wanted.clear()

    def _turn(self) -> float:
        """Do what there is to do; return for how many seconds nothing will have to be done."""
        with self._lock:
            own, checks, nodes = self._own_check, dict(self._checks), set(self._nodes)
        rereads, self._rereads = self._rereads, False
        if rereads or self._gate.refused:
            self._reread(is_told=rereads)
        before = self.tokens.current
        trouble: CouchError | None = None
        wait = self._until_old(before)
        if before is not None and (checks or own > self._own_answered):
            wait, trouble = self._look_into(before, nodes)
        elif before is None or wait <= 0:
            wait, trouble = self._enter()
        with self._lock:
            # The checks go only after they were looked into, because each is waited for.
            self._checks = {who: number for who, number in self._checks.items() if number != checks.get(who)}
            self._nodes -= nodes
        self._own_answered = own
        self.tokens.answer(own, trouble)
        after = self.tokens.current
        if (before and before.number) != (after and after.number):
            self._notify(None)
        if checks:
            self._notify(checks)
        return wait

    def _look_into(self, token: Token, nodes: set[str]) -> tuple[float, CouchError | None]:
        """Find out whether the server takes the token; where it does not, try to get another.

        Returns after how many seconds to look again, and what stands in the way of finding out.
        """
        if token.cookie is None:
            # It carries the password, so to find out is to ask for it. It may still be right while the gate is shut.
            wait, trouble = self._enter()
            if trouble is not None and (self._gate.refused or self._gate.locked):
                self.tokens.shut(trouble)
            return wait, trouble
        try:
            if self._login().takes(token):
                self._look_into_nodes(token, nodes)
                return self._until_old(token), None
        except CouchError as error:
            return self._until_old(token), error
        log.info("the server does not take the session any more; logging in again")
        self.tokens.withdraw()
        return self._enter()

    def _look_into_nodes(self, token: Token, nodes: set[str]) -> None:
        """Find out whether other nodes take the session; where one does not, they get the password as well."""
        if token.relayed is None and (strangers := sorted(each for each in nodes if not self._is_taken(token, each))):
            log.warning("nodes do not take the session of another; their paths get the password", nodes=strangers)
            self._relays = True
            self._number += 1
            self.tokens.admit(self._login().relayed(token, self._number))

    def _is_taken(self, token: Token, node: str) -> bool:
        try:
            return self._login().takes(token, node)
        except CouchError:
            # The node may be away. The answer that was doubted is then about the path.
            return True

    def _enter(self) -> tuple[float, CouchError | None]:
        """Ask to be let in, if the gate lets us; return after how many seconds to try again, and what was in the way.

        A token that there is stays until there is another one.
        """
        wait, trouble = self._attempt()
        if trouble is not None and self.tokens.current is None:
            self.tokens.shut(trouble)
        if trouble is not None and self._gate.refused and self._source.is_file:
            wait = min(wait, _REREAD_SECONDS)
        return wait, trouble

    def _attempt(self) -> tuple[float, CouchError | None]:
        try:
            with self._record.held() as record:
                now = time.time()
                self._gate = self._gate.recall(record.times, now)
                if any(each > now for each in record.times):
                    # They are of a clock that was set back since. Left so, they would be new again at each look.
                    record.write(self._gate.refusals)
                pause = self._gate.pause(now)
                if pause > 0:
                    return pause, RefusedError(self._why_shut(pause))
                return self._send(record)
        except BusyError:
            # Sessions that wait for the first verdict go on waiting; a check was not looked into.
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
            admission = self._login().enter(self._number + 1, before_sending)
        except CouchError as error:
            trouble = error
            # An answer of the server's that is no refusal was not counted as one.
            lost = sent and (isinstance(error, GatewayError) or not isinstance(error, ServerError))
            admission = Admission(Verdict.UNANSWERED if lost else Verdict.UNJUDGED)
        now = time.time()
        self._gate = asking.hear(admission.verdict, now)
        if sent:
            record.write(self._gate.refusals)
        pause = self._gate.pause(now)
        if (token := admission.token) is not None:
            self._admitted(admission, self._login().relayed(token, token.number) if self._relays else token)
            return self._until_old(token), None
        if admission.verdict is Verdict.REFUSED:
            self.refusals += 1
        trouble = trouble or RefusedError(self._why_refused(admission.verdict, pause))
        is_news = self._said is not admission.verdict or admission.verdict is Verdict.REFUSED
        if is_news and self._asks_again:
            log.warning("not let in", error=str(trouble), kind=trouble.kind, again_in_seconds=round(pause))
        self._said = admission.verdict
        return pause, trouble

    def _admitted(self, admission: Admission, token: Token) -> None:
        self._number = token.number
        self._lifetime = admission.lifetime_seconds or _USUAL_LIFETIME_SECONDS
        self.logins += 1
        self.tokens.admit(token)
        log.info("logged in", username=self._username, by="session" if token.cookie is not None else "password")
        if admission.is_admin is False:
            log.warning("the account is no server admin, and little can be done with it", username=self._username)
        self._said = Verdict.ACCEPTED

    def _reread(self, *, is_told: bool) -> None:
        before = self._credentials
        try:
            self._credentials = self._source.read() or before
        except ConfigError as error:
            log.warning("the password cannot be read again; the one before stays", error=str(error))
            return
        if self._credentials != before:
            self._gate = self._gate.renew()
        if self._credentials != before or is_told:
            words = "another one" if self._credentials != before else "the same as before"
            log.info("the password was read again", found=words)

    # Words, and what is due

    def _why_refused(self, verdict: Verdict, pause: float) -> str:
        if verdict is Verdict.LOCKED:
            return self._words.locked(pause, by_us=bool(self._gate.refusals))
        return self._words.refused(pause)

    def _why_shut(self, pause: float) -> str:
        if self._said in (Verdict.REFUSED, Verdict.LOCKED):
            return self._why_refused(self._said, pause)
        if self._gate.refusals and not self._gate.failed:
            return self._words.spared(len(self._gate.refusals), pause)
        return self._words.unanswered(pause)

    @property
    def _words(self) -> LoginWords:
        return LoginWords(self._username, self._source.origin, self._source.is_file, self._asks_again)

    @property
    def _username(self) -> str:
        return "" if self._credentials is None else self._credentials.username

    def _login(self) -> Login:
        if self._credentials is None:
            raise RuntimeError("nobody is to be logged in")
        return Login(self._session, self._credentials)

    def _until_old(self, token: Token | None) -> float:
        """Return in how many seconds it is time to log in again, because no answer brought a newer cookie."""
        if token is None or token.cookie is None:
            return _MAX_WAIT_SECONDS
        due = self.tokens.renewed_at + self._lifetime * _RENEWED_AFTER
        return min(due - time.monotonic(), _MAX_WAIT_SECONDS)
